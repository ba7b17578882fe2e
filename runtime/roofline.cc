#include "runtime/roofline.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/threads.h"
#include "kernels_ref/spread.h"
#include "kernels_ref/variants.h"

namespace attar {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median_seconds(const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int pass = 0; pass < 9; ++pass) seconds.push_back(seconds_of(work));
  return median(std::move(seconds));
}

void read_once(ByteView memory) {
  constexpr std::size_t kPart = std::size_t{1} << 22;
  constexpr std::size_t kStreams = 4, kLine = 64, kAhead = 2048;  // what was fastest of several
  std::atomic<std::uint64_t> total{0};  // keeps the loop alive
  spread((memory.size() + kPart - 1) / kPart, memory.size(), [&](std::size_t part) {
    std::uint64_t sum = 0;
    const ByteView bytes = memory.subspan(part * kPart, std::min(kPart, memory.size() - part * kPart));
    const std::size_t length = bytes.size() / (kStreams * kLine) * kLine;
    for (std::size_t i = 0; i < length; i += kLine) {
      for (std::size_t stream = 0; stream < kStreams; ++stream) {
        const std::byte* const line = bytes.data() + stream * length + i;
        __builtin_prefetch(line + kAhead);  // past the end it does nothing
        std::uint64_t words[kLine / sizeof(std::uint64_t)];
        std::memcpy(words, line, kLine);
        for (const std::uint64_t word : words) sum += word;
      }
    }
    total += sum;
  });
}

double measure_read_bandwidth() {
  const std::vector<std::byte> memory(std::size_t{1} << 28, std::byte{1});
  return static_cast<double>(memory.size()) / median_seconds([&] { read_once(memory); });
}

double measure_product_rate() {
  constexpr std::size_t kColumns = 512, kTokens = 32, kTimes = 400;
  const auto threads = static_cast<std::size_t>(thread_count());
  const std::vector<std::uint8_t> codes(kPanelRows * kColumns, 1);
  const std::vector<std::int8_t> q(kTokens * kColumns, 1);
  const std::vector<float> ones(kTokens * kColumns / 32, 1.0f);
  const std::vector<std::int32_t> starts(ones.size());
  std::vector<float> y(threads * kTokens * kPanelRows);
  const double seconds = median_seconds([&] {
    spread(threads, kTimes * codes.size() * kTokens, [&](std::size_t thread) {
      for (std::size_t i = 0; i < kTimes; ++i)
        active_variant().panel({codes.data(), ones.data(), nullptr, 32, false, kColumns, kTokens, q.data(), ones.data(), nullptr, starts.data(),
                                y.data() + thread * kTokens * kPanelRows, kPanelRows, kPanelRows});
    });
  });
  return static_cast<double>(threads * kTimes * kPanelRows * kColumns * kTokens) / seconds;
}

}  // namespace attar
