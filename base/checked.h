// Arithmetic on sizes that come from a file: it throws instead of wrapping.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/error.h"

namespace attar {

inline std::uint64_t checked_add(std::uint64_t a, std::uint64_t b, std::string_view what) {
  std::uint64_t sum;
  if (__builtin_add_overflow(a, b, &sum)) fail(what, ": ", a, " + ", b, " does not fit 64 bits");
  return sum;
}

inline std::uint64_t checked_mul(std::uint64_t a, std::uint64_t b, std::string_view what) {
  std::uint64_t product;
  if (__builtin_mul_overflow(a, b, &product)) fail(what, ": ", a, " * ", b, " does not fit 64 bits");
  return product;
}

// The smallest multiple of alignment (a power of two) that is >= value.
inline std::uint64_t checked_align(std::uint64_t value, std::uint64_t alignment, std::string_view what) {
  return checked_add(value, alignment - 1, what) & ~(alignment - 1);
}

}  // namespace attar
