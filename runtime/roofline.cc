#include "runtime/roofline.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/threads.h"
#include "kernels_ref/spread.h"
#include "kernels_ref/variants.h"

namespace attar {

double measure_read_bandwidth() {
  constexpr std::size_t kWords = std::size_t{1} << 25, kPart = std::size_t{1} << 17;
  constexpr std::size_t kStreams = 4, kLine = 8, kAhead = 256;  // what was fastest of several
  const std::vector<std::uint64_t> memory(kWords, 1);
  std::vector<std::uint64_t> sums(kWords / kPart);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    spread(sums.size(), kWords, [&](std::size_t part) {
      std::uint64_t sum = 0;
      const std::uint64_t* const words = memory.data() + part * kPart;
      for (std::size_t i = 0; i < kPart / kStreams; i += kLine) {
        for (std::size_t stream = 0; stream < kStreams; ++stream) {
          const std::uint64_t* const line = words + stream * (kPart / kStreams) + i;
          __builtin_prefetch(line + kAhead);  // past the end it does nothing
          for (std::size_t k = 0; k < kLine; ++k) sum += line[k];
        }
      }
      sums[part] += sum;  // keeps the loop alive
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(kWords * sizeof(std::uint64_t)) / seconds);
  }
  return best;
}

double measure_product_rate() {
  constexpr std::size_t kColumns = 512, kTokens = 32, kTimes = 400;
  const auto threads = static_cast<std::size_t>(thread_count());
  const std::vector<std::uint8_t> codes(kPanelRows * kColumns, 1);
  const std::vector<std::int8_t> q(kTokens * kColumns, 1);
  const std::vector<float> ones(kTokens * kColumns / 32, 1.0f);
  const std::vector<std::int32_t> starts(ones.size());
  std::vector<float> y(threads * kTokens * kPanelRows);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    spread(threads, kTimes * codes.size() * kTokens, [&](std::size_t thread) {
      for (std::size_t i = 0; i < kTimes; ++i)
        active_variant().panel({codes.data(), ones.data(), nullptr, 32, false, kColumns, kTokens, q.data(), ones.data(), nullptr, starts.data(),
                                y.data() + thread * kTokens * kPanelRows, kPanelRows, kPanelRows});
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(threads * kTimes * kPanelRows * kColumns * kTokens) / seconds);
  }
  return best;
}

}  // namespace attar
