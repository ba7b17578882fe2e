#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <string_view>

#include "base/console.h"
#include "base/threads.h"
#include "model/decoder.h"

namespace attar {
namespace {

// Float32 matmul rate in GFLOP/s. The reference BLAS reaches 1-3, OpenBLAS about 100 a core.
double matmul_rate() {
  constexpr std::int64_t kSize = 192;
  const at::Tensor a = at::ones({kSize, kSize});
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const at::Tensor product = a.matmul(a);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds * 1e-9);
  }
  return best;
}

template <class F>
F blas_function(const char* name) {
  return reinterpret_cast<F>(::dlsym(RTLD_DEFAULT, name));
}

// OpenBLAS picks its kernels when it is loaded, by a list of processor models; one newer than the library is taken for a Prescott of
// 2004, with SSE3 only. What the processor can do is asked here instead, and the choice made again. OPENBLAS_CORETYPE still decides
// if it is set.
void wake_openblas() {
#if defined(__x86_64__) && defined(__GNUC__)
  const auto core_name = blas_function<const char* (*)()>("openblas_get_corename");
  const auto quit = blas_function<void (*)()>("gotoblas_dynamic_quit"), init = blas_function<void (*)()>("gotoblas_dynamic_init");
  if (core_name == nullptr || quit == nullptr || init == nullptr || std::string_view(core_name()) != "Prescott") return;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl");
  const char* core = wide ? "SkylakeX" : __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "Haswell" : nullptr;
  if (core == nullptr || ::setenv("OPENBLAS_CORETYPE", core, 0) != 0) return;
  quit();
  init();
#endif
}

}  // namespace

at::Device parse_device(const std::string& name) {
  at::Device device(at::kCPU);
  try {
    device = at::Device(name);
  } catch (const c10::Error&) {
    fail("--device ", name, ": not a device; give cpu, cuda or cuda:N");
  }
  if (device.is_cpu()) return device;
  if (!device.is_cuda()) fail("--device ", name, ": only cpu and cuda are supported");
  if (!at::hasCUDA())
    fail("--device ", name, ": this LibTorch sees no CUDA device; build with a CUDA LibTorch, or use --device cpu");
  return device;
}

void set_up_torch(int threads) {
  [[maybe_unused]] static const bool awake = (wake_openblas(), true);
  at::set_num_threads(threads);
  // at::set_num_threads does not reach OpenBLAS's own pool.
  if (const auto set = blas_function<void (*)(int)>("openblas_set_num_threads")) set(threads);
  static bool checked = false;
  if (std::exchange(checked, true) || ::dlsym(RTLD_DEFAULT, "openblas_get_config") != nullptr || at::hasMKL()) return;
  if (const double rate = matmul_rate(); rate < 8)
    warn(cat("matrix products run at only ", static_cast<int>(rate), " GFLOP/s: LibTorch found the slow reference BLAS. ",
             "Install libopenblas0 (apt-get install libopenblas0); no rebuild is needed."));
}

OneTorchThread::OneTorchThread() : before_(at::get_num_threads()) { set_up_torch(1); }
OneTorchThread::~OneTorchThread() { set_up_torch(before_); }

}  // namespace attar
