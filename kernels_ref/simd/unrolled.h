// Loops whose counter is a constant, so that the arrays that it indexes are registers.
#pragma once

#include <cstddef>

#define ATTAR_ALWAYS_INLINE __attribute__((always_inline))

namespace attar {
namespace {

template <std::size_t n>
struct Count {
  static constexpr std::size_t value = n;
  constexpr operator std::size_t() const { return n; }
};

// body(Count<0>) ... body(Count<n - 1>)
template <std::size_t n, std::size_t i = 0, class Body>
ATTAR_ALWAYS_INLINE inline void unrolled(Count<n> count, const Body& body) {
  if constexpr (i < n) {
    body(Count<i>{});
    unrolled<n, i + 1>(count, body);
  }
}

}  // namespace
}  // namespace attar
