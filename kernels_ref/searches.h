// Scales and codes of sixteen groups at once, searched in versions for different processors that give the same bits. Internal.
#pragma once

#include <cstdint>

#include "kernels_ref/types.h"

namespace attar {

enum class SearchKind : std::uint8_t {
  kScale,    // one scale a block: Q4_0, Q5_0, Q8_0, IQ4_NL
  kAffine,   // one scale and one offset: Q4_1, Q5_1
  kScales,   // a scale per group, integers times one f16: Q3_K, Q6_K, IQ4_XS
  kAffines,  // a scale and an offset per group: Q2_K, Q4_K, Q5_K
};

inline constexpr int kSearchGroups = 16;

struct SearchTask {
  SearchKind kind;
  const float *x, *w;       // (16, group): weights, 0 past the last block, and their importance, mean about 1; nullptr: 1 for all
  int group;                // 16 or 32 weights
  int groups_per_block;     // 1, 8 or 16
  float low, high;          // integer levels
  bool codebook;            // the levels of IQ4_NL instead
  int scale_min, scale_max;  // of sc; of m: 0 .. scale_max
};

// out: a BlockScales for each of the 16 / groups_per_block blocks, zero for a block of nothing; codes: (16, group), the nearest levels.
using BlockSearch = void (*)(const SearchTask& task, BlockScales* out, std::uint8_t* codes);

// Group by group in plain floats; the others do the same operations on vectors as wide as registers.
void search_reference(const SearchTask& task, BlockScales* out, std::uint8_t* codes);
void search_portable(const SearchTask& task, BlockScales* out, std::uint8_t* codes);
#if defined(__x86_64__)
void search_avx2(const SearchTask& task, BlockScales* out, std::uint8_t* codes);
void search_avx512(const SearchTask& task, BlockScales* out, std::uint8_t* codes);
#endif

BlockSearch active_search();  // what goes with the variant of the products

}  // namespace attar
