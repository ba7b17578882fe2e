// The searches of scales, compiled for AVX2.
#if defined(__x86_64__)
#include "kernels_ref/search_batch.h"

namespace attar {

void search_avx2(const SearchTask& task, BlockScales* out, std::uint8_t* codes) { search::search_batch<search::Eights>(task, out, codes); }

}  // namespace attar
#endif
