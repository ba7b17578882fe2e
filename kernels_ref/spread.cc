#include "kernels_ref/spread.h"

#include <exception>

#include "base/threads.h"

namespace attar {

void spread(std::size_t count, std::size_t operations, const std::function<void(std::size_t)>& work) {
  constexpr std::size_t kWorthThreads = std::size_t{1} << 17;
  if (operations < kWorthThreads || count < 2 || thread_count() < 2) {
    for (std::size_t i = 0; i < count; ++i) work(i);
    return;
  }
#if defined(_OPENMP)
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic) num_threads(thread_count())
  for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(count); ++i) {
    try {
      work(static_cast<std::size_t>(i));
    } catch (...) {
#pragma omp critical(attar_spread)
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
#else  // threads are started anew each time: right, but slower
  parallel_for(static_cast<std::int64_t>(count), [&](std::int64_t i) { work(static_cast<std::size_t>(i)); });
#endif
}

}  // namespace attar
