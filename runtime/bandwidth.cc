#include "runtime/bandwidth.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels_ref/spread.h"

namespace attar {

double measure_read_bandwidth() {
  constexpr std::size_t kWords = std::size_t{1} << 25, kPart = std::size_t{1} << 17;
  const std::vector<std::uint64_t> memory(kWords, 1);
  std::vector<std::uint64_t> sums(kWords / kPart);
  double best = 0;
  for (int pass = 0; pass < 5; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    spread(sums.size(), kWords, [&](std::size_t part) {
      std::uint64_t sum = 0;
      for (std::size_t i = part * kPart; i < (part + 1) * kPart; ++i) sum += memory[i];
      sums[part] += sum;  // keeps the loop alive
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(kWords * sizeof(std::uint64_t)) / seconds);
  }
  return best;
}

}  // namespace attar
