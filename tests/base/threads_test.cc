#include "base/threads.h"

#include <gtest/gtest.h>

#include <atomic>

namespace {
std::atomic<int> g_asked{0};
}
// In the place of the C library's, which opens a file each time: std::thread::hardware_concurrency() of GCC's library calls this one.
extern "C" int get_nprocs() noexcept {
  ++g_asked;
  return 2;
}

namespace attar {
namespace {

// Loops of a decoder ask for the threads hundreds of times a token.
TEST(Threads, TheNumberOfCoresIsAskedForOnce) {
  set_thread_count(0);
  const int threads = thread_count(), asked = g_asked;
  EXPECT_GE(threads, 1);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(thread_count(), threads);
  EXPECT_EQ(g_asked, asked);
}

}  // namespace
}  // namespace attar
