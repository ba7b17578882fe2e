# Installs the build into a temporary prefix, builds a consumer against find_package(attar), and runs what was installed.
# cmake -D BUILD=... -D SOURCE=... -D WORK=... -P install_test.cmake
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

file(REMOVE_RECURSE ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
foreach(file bin/attar libexec/attar/attar-full share/man/man1/attar.1 share/bash-completion/completions/attar share/attar/datasets/teacher/config.json
        share/attar/recipes/demo.toml)
  if(NOT EXISTS ${WORK}/prefix/${file})
    message(FATAL_ERROR "not installed: ${file}")
  endif()
endforeach()
if(EXISTS ${WORK}/prefix/include/attar/datasets/teacher)
  message(FATAL_ERROR "a folder without headers was installed among them")
endif()
run(${CMAKE_COMMAND} -S ${SOURCE}/tests/install/consumer -B ${WORK}/consumer -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/consumer)
run(${WORK}/consumer/consumer ${WORK}/prefix/share/attar/datasets/teacher)
if(NOT out MATCHES "0\\.5.* 29 One day, Tom had three apples\\.")
  message(FATAL_ERROR "the consumer printed: ${out}")
endif()
# The installed program finds its data without the source tree.
run(${CMAKE_COMMAND} -E env --unset=ATTAR_DATA ${WORK}/prefix/bin/attar inspect builtin:teacher)
if(NOT out MATCHES "llama")
  message(FATAL_ERROR "attar inspect printed: ${out}")
endif()
# So does the program with LibTorch, which it hands over to.
run(${CMAKE_COMMAND} -E env --unset=ATTAR_DATA ${WORK}/prefix/bin/attar generate builtin:teacher --prompt "One morning" --max-tokens 2 --quiet)
if(NOT out MATCHES "^One morning")
  message(FATAL_ERROR "attar generate printed: ${out}")
endif()
file(REMOVE_RECURSE ${WORK})
