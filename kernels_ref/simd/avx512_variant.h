// Which function multiplies which type.
#pragma once

#include "kernels_ref/simd/attention.h"
#include "kernels_ref/simd/avx512_blocks32.h"
#include "kernels_ref/simd/avx512_k.h"
#include "kernels_ref/simd/avx512_unpack.h"
#include "kernels_ref/simd/panel.h"

namespace attar {
namespace {

template <class Isa>
void avx512_rows(const RowsTask& task) {
  switch (task.type) {
    case Type::kQ4_0: return nibble_rows<Isa, NibblesQ4_0>(task);
    case Type::kQ4_1: return nibble_rows<Isa, NibblesQ4_1>(task);
    case Type::kQ5_0: return nibble_rows<Isa, NibblesQ5_0>(task);
    case Type::kQ5_1: return nibble_rows<Isa, NibblesQ5_1>(task);
    case Type::kIQ4_NL: return nibble_rows<Isa, NibblesIQ4_NL>(task);
    case Type::kIQ4_XS: return iq4_xs_rows<Isa>(task);
    case Type::kQ8_0: return q8_0_rows<Isa>(task);
    case Type::kQ2_K: return k16_rows<Isa, KQ2>(task);
    case Type::kQ3_K: return k16_rows<Isa, KQ3>(task);
    case Type::kQ6_K: return k16_rows<Isa, KQ6>(task);
    case Type::kQ4_K: return k32_rows<Isa, false>(task);
    case Type::kQ5_K: return k32_rows<Isa, true>(task);
    default: return chunk_rows<Isa, false>(task);
  }
}

}  // namespace
}  // namespace attar
