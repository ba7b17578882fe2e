#include "kernels_ref/spread.h"

#include <exception>

#include "base/threads.h"

namespace attar {

void spread(std::size_t count, std::size_t operations, const std::function<void(std::size_t)>& work) {
  constexpr std::size_t kWorthThreads = std::size_t{1} << 15;
  [[maybe_unused]] const int threads = thread_count();
  if (operations < kWorthThreads || count < 2 || threads < 2) {
    for (std::size_t i = 0; i < count; ++i) work(i);
    return;
  }
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(count); ++i) {
    try {
      work(static_cast<std::size_t>(i));
    } catch (...) {
#pragma omp critical(attar_spread)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace attar
