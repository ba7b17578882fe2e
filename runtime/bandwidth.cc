#include "runtime/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels_ref/spread.h"

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

}  // namespace attar
