# Compiler options that every target of the project shares; linked, never exported.
add_library(attar_options INTERFACE)
target_compile_features(attar_options INTERFACE cxx_std_20)
target_include_directories(attar_options INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(attar_options INTERFACE
  -Wall -Wextra -Wshadow -Wno-missing-field-initializers
  # A fused multiply-add rounds once where the formats' definition rounds twice: decoded weights must be bit-equal.
  -ffp-contract=off
  # One setting for libraries and programs, so that all share one precompiled header.
  -fPIC
  $<$<BOOL:${ATTAR_FUZZ}>:-fsanitize=fuzzer-no-link>
  $<$<BOOL:${ATTAR_NATIVE}>:-march=native>)
set(CMAKE_CXX_EXTENSIONS OFF)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
endif()
