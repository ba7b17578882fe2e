// Plain types: one number per weight.
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels_ref/rows.h"

namespace attar {
namespace {

template <class Stored, class Convert>
void decode_as(const std::byte* row, Span<float> out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, row + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert(stored);
  }
}

template <class Stored, class Convert>
void encode_as(Span<const float> weights, std::byte* row, Convert convert) {
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const Stored stored = convert(weights[i]);
    std::memcpy(row + i * sizeof(Stored), &stored, sizeof(Stored));
  }
}

// The compiler makes no vectors of a loop over bits taken for floats, so here they are: eight at a time.
using Halves = std::uint16_t __attribute__((vector_size(16)));
using Words = std::uint32_t __attribute__((vector_size(32)));

void decode_bf16(const std::byte* row, Span<float> out) {
  std::size_t i = 0;
  for (; i + 8 <= out.size(); i += 8) {
    Halves stored;
    std::memcpy(&stored, row + 2 * i, sizeof stored);
    const Words bits = __builtin_convertvector(stored, Words) << 16;
    std::memcpy(out.data() + i, &bits, sizeof bits);
  }
  decode_as<std::uint16_t>(row + 2 * i, out.subspan(i), f32_from_bf16);
}

constexpr auto kCast = [](auto stored) { return static_cast<float>(stored); };

}  // namespace

void decode_plain_row(Type type, const std::byte* row, Span<float> out) {
  switch (type) {
    case Type::kF32: std::memcpy(out.data(), row, out.size_bytes()); return;
    case Type::kF16: return decode_as<std::uint16_t>(row, out, f32_from_f16);
    case Type::kBF16: return decode_bf16(row, out);
    case Type::kF64: return decode_as<double>(row, out, kCast);
    case Type::kI8: return decode_as<std::int8_t>(row, out, kCast);
    case Type::kI16: return decode_as<std::int16_t>(row, out, kCast);
    case Type::kI32: return decode_as<std::int32_t>(row, out, kCast);
    case Type::kI64: return decode_as<std::int64_t>(row, out, kCast);
    case Type::kU32: return decode_as<std::uint32_t>(row, out, kCast);
    default: fail("[decode] ", info(type).name, " is not a plain type");
  }
}

void encode_plain_row(Type type, Span<const float> weights, std::byte* row) {
  switch (type) {
    case Type::kF32: std::memcpy(row, weights.data(), weights.size_bytes()); return;
    case Type::kF16:
      for (std::size_t i = 0; i < weights.size(); ++i)
        if (std::isinf(f32_from_f16(f16_from_f32(weights[i]))))
          fail("[encode] weight ", i, " is ", weights[i], ": f16 holds at most 65504; try bf16 or f32");
      return encode_as<std::uint16_t>(weights, row, f16_from_f32);
    case Type::kBF16:
      for (std::size_t i = 0; i < weights.size(); ++i)
        if (std::isinf(f32_from_bf16(bf16_from_f32(weights[i]))))
          fail("[encode] weight ", i, " is ", weights[i], ": it rounds to infinity in bf16; try f32");
      return encode_as<std::uint16_t>(weights, row, bf16_from_f32);
    default: fail("[encode] ", info(type).name, " can only be decoded");
  }
}

}  // namespace attar
