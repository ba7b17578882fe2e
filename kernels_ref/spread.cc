#include "kernels_ref/spread.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "base/threads.h"

namespace attar {
namespace {

inline void pause_in_loop() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Threads that wait for the next loop: turning at first, as a decoder's loops follow each other within microseconds (a sleeping thread
// takes longer than that to wake), then asleep. Who comes too late is not waited for.
class Team {
 public:
  ~Team() { stop(); }

  // False, with nothing done, while another loop runs.
  bool run(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& work) {
    if (busy_.test_and_set(std::memory_order_acquire)) return false;
    const Clearing clearing{busy_};
    if (threads_.size() + 1 != threads) start(threads - 1);
    work_ = &work, count_ = count, error_ = nullptr;
    next_.store(0, std::memory_order_relaxed);
    const std::uint64_t number = state_.load() / kNumber + 1;
    state_ = number * kNumber + kOpen;
    if (asleep_ > 0) {
      const std::lock_guard lock(mutex_);
      wake_.notify_all();
    }
    take_part();
    state_ -= kOpen;
    for (int turn = 0; state_.load() % kOpen != 0; ++turn) turn < kTurns ? pause_in_loop() : std::this_thread::yield();
    if (error_) std::rethrow_exception(error_);
    return true;
  }

 private:
  static constexpr int kTurns = 4096;  // about 100 us
  // state_: threads at work on the loop, the caller not counted; whether one may begin; the number of the loop.
  static constexpr std::uint64_t kOpen = 1u << 16, kNumber = 2 * kOpen;

  struct Clearing {
    std::atomic_flag& flag;
    ~Clearing() { flag.clear(std::memory_order_release); }
  };

  void start(std::size_t others) {
    stop();
    stopping_ = false;
    for (std::size_t i = 0; i < others; ++i) threads_.emplace_back([this, seen = state_.load() / kNumber] { wait_and_help(seen); });
  }
  void stop() {
    stopping_ = true;
    {
      const std::lock_guard lock(mutex_);
      wake_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  void wait_and_help(std::uint64_t seen) {
    for (int turn = 0; !stopping_;) {
      std::uint64_t state = state_;
      if (state / kNumber == seen) {
        if (++turn < kTurns) {
          pause_in_loop();
        } else {
          std::unique_lock lock(mutex_);
          ++asleep_;
          wake_.wait(lock, [&] { return stopping_ || state_.load() / kNumber != seen; });
          --asleep_;
          turn = 0;
        }
        continue;
      }
      // The number stays what it is while someone is at work.
      while (state % kNumber >= kOpen && !state_.compare_exchange_weak(state, state + 1)) {
      }
      if (state % kNumber >= kOpen) {
        take_part();
        --state_;
      }
      seen = state / kNumber, turn = 0;
    }
  }

  void take_part() {
    for (std::size_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) {
      try {
        (*work_)(i);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
    }
  }

  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
  const std::function<void(std::size_t)>* work_ = nullptr;
  std::size_t count_ = 0;
  std::exception_ptr error_;
  alignas(64) std::atomic<std::uint64_t> state_{0};
  alignas(64) std::atomic<std::size_t> next_{0};
  alignas(64) std::atomic<int> asleep_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
};

}  // namespace

void spread(std::size_t count, std::size_t operations, const std::function<void(std::size_t)>& work) {
  constexpr std::size_t kWorthThreads = std::size_t{1} << 17;
  static Team team;
  const auto threads = static_cast<std::size_t>(thread_count());
  if (operations >= kWorthThreads && count >= 2 && threads >= 2 && team.run(count, threads, work)) return;
  for (std::size_t i = 0; i < count; ++i) work(i);
}

}  // namespace attar
