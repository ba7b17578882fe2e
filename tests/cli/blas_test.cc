// Which kernels OpenBLAS runs on, as it says itself.

#include <cstdlib>

#include "tests/support.h"

namespace attar {
namespace {

TEST(Blas, RunsOnKernelsThatTheProcessorDeserves) {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "a processor without AVX2";
  ::setenv("OPENBLAS_VERBOSE", "2", 1);
  const auto chosen = test::run_attar("eval --help");
  ::setenv("OPENBLAS_CORETYPE", "Nehalem", 1);
  const auto set = test::run_attar("eval --help");
  ::unsetenv("OPENBLAS_CORETYPE");
  ::unsetenv("OPENBLAS_VERBOSE");
  const auto last = chosen.output.rfind("Core: ");
  if (last == std::string::npos) GTEST_SKIP() << "another BLAS";
  EXPECT_NE(chosen.output.substr(last, 14), "Core: Prescott") << chosen.output;
  EXPECT_NE(set.output.find("Core: Nehalem"), std::string::npos) << set.output;
#else
  GTEST_SKIP() << "another processor";
#endif
}

}  // namespace
}  // namespace attar
