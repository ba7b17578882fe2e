// std::span, and where the standard library has none yet as much of it as the kernels use: they compile as C++17.
#pragma once

#if __cplusplus >= 202002L
#include <span>

namespace attar {
template <class T>
using Span = std::span<T>;
}  // namespace attar
#else
#include <cstddef>
#include <iterator>
#include <type_traits>

namespace attar {

template <class T>
class Span {
 public:
  using value_type = std::remove_cv_t<T>;

  constexpr Span() = default;
  constexpr Span(T* data, std::size_t size) : data_(data), size_(size) {}
  template <class Range, class = std::enable_if_t<std::is_convertible_v<decltype(std::data(std::declval<Range&>())), T*>>>
  constexpr Span(Range&& range) : Span(std::data(range), std::size(range)) {}

  constexpr T* data() const { return data_; }
  constexpr std::size_t size() const { return size_; }
  constexpr std::size_t size_bytes() const { return size_ * sizeof(T); }
  constexpr bool empty() const { return size_ == 0; }
  constexpr T& operator[](std::size_t i) const { return data_[i]; }
  constexpr T* begin() const { return data_; }
  constexpr T* end() const { return data_ + size_; }
  constexpr Span first(std::size_t count) const { return {data_, count}; }
  constexpr Span subspan(std::size_t from) const { return {data_ + from, size_ - from}; }
  constexpr Span subspan(std::size_t from, std::size_t count) const { return {data_ + from, count}; }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace attar
#endif
