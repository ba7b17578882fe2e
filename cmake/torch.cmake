# LibTorch, and one precompiled header that every target with LibTorch reuses. ATen's and not torch/torch.h, whose templates cost
# every source file that includes it six seconds.
find_package(Torch REQUIRED)
separate_arguments(TORCH_CXX_FLAGS)

file(WRITE ${CMAKE_BINARY_DIR}/torch_pch.cc "")
add_library(attar_torch_pch OBJECT ${CMAKE_BINARY_DIR}/torch_pch.cc)
target_link_libraries(attar_torch_pch PRIVATE attar_options nlohmann_json::nlohmann_json)
target_include_directories(attar_torch_pch SYSTEM PRIVATE ${TORCH_INCLUDE_DIRS})
target_compile_options(attar_torch_pch PRIVATE ${TORCH_CXX_FLAGS} $<$<CONFIG:Release>:-O1>)
target_compile_definitions(attar_torch_pch PRIVATE $<TARGET_PROPERTY:torch,INTERFACE_COMPILE_DEFINITIONS>)
target_precompile_headers(attar_torch_pch PRIVATE <ATen/ATen.h> <nlohmann/json.hpp>)

# The heavy work happens inside LibTorch: -O1 here halves the time to compile and costs nothing measurable.
function(attar_use_torch target)
  target_include_directories(${target} SYSTEM PUBLIC ${TORCH_INCLUDE_DIRS})
  target_compile_options(${target} PRIVATE ${TORCH_CXX_FLAGS} $<$<CONFIG:Release>:-O1>)
  target_link_libraries(${target} PUBLIC ${TORCH_LIBRARIES})
  target_precompile_headers(${target} REUSE_FROM attar_torch_pch)
endfunction()
