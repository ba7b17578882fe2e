#include "kernels_ref/spread.h"

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "base/threads.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::size_t kMany = std::size_t{1} << 30;  // operations: worth threads

class Spread : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_thread_count(GetParam()); }
  void TearDown() override { set_thread_count(0); }
};

TEST_P(Spread, DoesEachOnce) {
  for (const std::size_t count : {0, 1, 2, 3, 7, 1000}) {
    for (int repeat = 0; repeat < 300; ++repeat) {
      std::vector<int> times(count);
      spread(count, kMany, [&](std::size_t i) { ++times[i]; });
      ASSERT_EQ(times, std::vector<int>(count, 1)) << count;
    }
  }
}

TEST_P(Spread, WakesWhoHasGoneToSleep) {
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
    std::atomic<int> at_once{0}, most{0};
    // Each waits, but not for ever, until another thread has come.
    spread(static_cast<std::size_t>(GetParam()), kMany, [&](std::size_t) {
      const int now = ++at_once;
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
      }
      for (int turn = 0; turn < 2000 && most < GetParam(); ++turn) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      --at_once;
    });
    ASSERT_EQ(most, GetParam());
  }
}

TEST_P(Spread, TheFirstExceptionComesOut) {
  for (int repeat = 0; repeat < 100; ++repeat) {
    std::atomic<int> done{0};
    EXPECT_HAS(test::error_of([&] {
                 spread(50, kMany, [&](std::size_t i) {
                   ++done;
                   if (i == 7) fail("the seventh");
                 });
               }),
               "the seventh");
    EXPECT_GE(done, 8);
    std::atomic<int> after{0};
    spread(50, kMany, [&](std::size_t) { ++after; });
    ASSERT_EQ(after, 50);
  }
}

TEST_P(Spread, WithinItselfAndFromSeveralThreads) {
  std::atomic<int> done{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 200; ++repeat)
        spread(6, kMany, [&](std::size_t) { spread(5, kMany, [&](std::size_t) { ++done; }); });
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(done, 4 * 200 * 6 * 5);
}

INSTANTIATE_TEST_SUITE_P(Threads, Spread, ::testing::Values(1, 2, 3, 8));

TEST(SpreadThreads, AsManyAsAreAskedForEachTime) {
  for (const int threads : {2, 5, 1, 3}) {
    set_thread_count(threads);
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<std::size_t> x(100);
      spread(x.size(), kMany, [&](std::size_t i) { x[i] = i; });
      ASSERT_EQ(std::accumulate(x.begin(), x.end(), std::size_t{0}), 4950u);
    }
  }
  set_thread_count(0);
}

}  // namespace
}  // namespace attar
