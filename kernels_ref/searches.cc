// The searches of scales without special instructions, and which one runs.
#include "kernels_ref/searches.h"

#include "kernels_ref/search_batch.h"
#include "kernels_ref/variants.h"

namespace attar {

void search_reference(const SearchTask& task, BlockScales* out, std::uint8_t* codes) { search::search_batch<float>(task, out, codes); }
void search_portable(const SearchTask& task, BlockScales* out, std::uint8_t* codes) { search::search_batch<search::Fours>(task, out, codes); }

BlockSearch active_search() {
  const Variant* variant = &active_variant();
#if defined(__x86_64__)
  if (variant == &kAvx512Vnni || variant == &kAvx512) return search_avx512;
  if (variant == &kAvx2) return search_avx2;
#endif
  return variant == &kReference ? search_reference : search_portable;
}

}  // namespace attar
