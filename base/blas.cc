#include "base/blas.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string_view>

namespace attar {
namespace {

template <class F>
F find_function(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_DEFAULT, name));
}

}  // namespace

// The last two are what OpenBLAS itself calls when it is loaded and left (driver/others/dynamic.c).
void choose_blas_kernels() {
#if defined(__x86_64__)
  const auto core_name = find_function<const char* (*)()>("openblas_get_corename");
  const auto quit = find_function<void (*)()>("gotoblas_dynamic_quit"), init = find_function<void (*)()>("gotoblas_dynamic_init");
  if (core_name == nullptr || quit == nullptr || init == nullptr) return;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
  const std::string_view chosen = core_name();
  const char* better = nullptr;
  if (avx2 && chosen == "Prescott") better = "Haswell";
  if (avx512 && (chosen == "Prescott" || chosen == "Haswell" || chosen == "Zen")) better = "SkylakeX";
  constexpr int kKeep = 0;
  if (better == nullptr || std::getenv("OPENBLAS_CORETYPE") != nullptr || ::setenv("OPENBLAS_CORETYPE", better, kKeep) != 0) return;
  quit();
  init();
#endif
}

}  // namespace attar
