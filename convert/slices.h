// Bytes for a file, handed on in slices of a few MB by another thread while the next slice is made.
#pragma once

#include <cstdint>
#include <functional>
#include <future>

#include "convert/tensor.h"

namespace attar {

// An error of the sink is thrown by what is called next; without finish() the last bytes may be lost.
class Slices {
 public:
  // sink is given all bytes in order, in one call after another, not always from the same thread.
  explicit Slices(std::function<void(ByteView)> sink) : sink_(std::move(sink)) {}

  void add(ByteView bytes);                      // a copy of them
  void add(const Tensor& tensor, Type type);     // its rows, converted to `type`; throws Error for what the type cannot hold
  std::uint64_t size() const { return size_; }   // bytes added
  void finish();                                 // until the sink has all of them

 private:
  std::span<std::byte> grow(std::size_t bytes);
  void hand_on();
  std::function<void(ByteView)> sink_;
  std::uint64_t size_ = 0;
  Bytes next_, handed_on_;
  std::future<void> sinking_;  // of what is handed on; its end waits for that
};

}  // namespace attar
