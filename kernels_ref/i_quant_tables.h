// The grids of the IQ1, IQ2 and IQ3 types: what an index stands for, packed. Internal.
//
// Data of ggml (src/ggml-common.h, iq2xxs_grid ... iq1s_grid), in the packed form of gguf-py 0.7.0 (gguf/quants.py,
// grid_hex; both MIT licence): two bits for each of eight entries (IQ1, IQ2), four bits for each of four (IQ3), the first
// entry lowest.
#pragma once

#include <cstdint>

namespace attar {

extern const std::uint16_t kIq2xxsGrid[256], kIq2xsGrid[512], kIq2sGrid[1024];  // 0, 1, 2: magnitudes 8, 25, 43
extern const std::uint16_t kIq3xxsGrid[256];                                    // 0 .. 7: 4, 12, 20, ... 52, 62
extern const std::uint16_t kIq3sGrid[512];                                      // 0 .. 7: 1, 3, ... 15
extern const std::uint16_t kIq1sGrid[2048];                                     // 0, 1, 2: -1, 0, 1

}  // namespace attar
