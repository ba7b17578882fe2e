#include "base/threads.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace attar {
namespace {
std::atomic<int> g_threads{0};
thread_local bool t_one_of_many = false;  // this thread does the work of a loop together with others
}

void set_thread_count(int count) { g_threads = count; }

int thread_count() {
#if defined(__EMSCRIPTEN__) && !defined(__EMSCRIPTEN_PTHREADS__)
  return 1;  // WebAssembly without threads: none can be started
#endif
  if (t_one_of_many) return 1;
  // Asked once: the C library opens a file to know, which takes longer than many a loop of a decoder.
  static const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int wanted = g_threads;
  return wanted > 0 ? wanted : cores;
}

void parallel_for(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;
  std::mutex mutex;
  const auto loop = [&] {
    for (std::int64_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = count;
      }
    }
  };
  const std::int64_t threads = std::min<std::int64_t>(thread_count(), count);
  const auto take_part = [&] {
    const bool before = std::exchange(t_one_of_many, t_one_of_many || threads > 1);
    loop();
    t_one_of_many = before;
  };
  std::vector<std::thread> others;
  for (std::int64_t t = 1; t < threads; ++t) others.emplace_back(take_part);
  take_part();
  for (auto& thread : others) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace attar
