// Runs the tests. What the environment does not say about where things lie, the build knows.
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/blas.h"

int main(int argc, char** argv) {
  attar::choose_blas_kernels();
  constexpr int kKeep = 0;
  setenv("ATTAR_SHARED", ATTAR_SHARED_DIR, kKeep);
  setenv("ATTAR_PROGRAM", ATTAR_BUILD_DIR "/attar", kKeep);
  setenv("ATTAR_SOURCE", ATTAR_SOURCE_DIR, kKeep);
  setenv("ATTAR_DATA", ATTAR_SOURCE_DIR, kKeep);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
