// The searches of scales, compiled for AVX-512.
#if defined(__x86_64__)
#include "kernels_ref/search_batch.h"

namespace attar {

void search_avx512(const SearchTask& task, BlockScales* out, std::uint8_t* codes) { search::search_batch<search::Sixteens>(task, out, codes); }

}  // namespace attar
#endif
