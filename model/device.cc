#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <chrono>

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
  at::set_num_threads(threads);
  // at::set_num_threads does not reach OpenBLAS's own pool.
  using SetThreads = void (*)(int);
  if (const auto set = reinterpret_cast<SetThreads>(::dlsym(RTLD_DEFAULT, "openblas_set_num_threads"))) set(threads);
  static bool checked = false;
  if (std::exchange(checked, true) || ::dlsym(RTLD_DEFAULT, "openblas_get_config") != nullptr || at::hasMKL()) return;
  if (const double rate = matmul_rate(); rate < 8)
    warn(cat("matrix products run at only ", static_cast<int>(rate), " GFLOP/s: LibTorch found the slow reference BLAS. ",
             "Install libopenblas0 (apt-get install libopenblas0); no rebuild is needed."));
}

OneTorchThread::OneTorchThread() : before_(at::get_num_threads()) { set_up_torch(1); }
OneTorchThread::~OneTorchThread() { set_up_torch(before_); }

}  // namespace attar
