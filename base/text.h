// Small helpers on text: UTF-8, suggestions, hashes, sizes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace attar {

// Byte offset of the first byte that is not part of well-formed UTF-8 (RFC 3629), or nothing.
std::optional<std::size_t> find_invalid_utf8(std::string_view text);

// Every byte that is no part of well-formed UTF-8 becomes U+FFFD: for JSON, XML and pages, which hold text only.
std::string as_utf8(std::string_view text);

// The candidate with the smallest edit distance to word; empty if none is near enough to be what was meant.
std::string nearest(std::string_view word, std::span<const std::string> candidates);
// "; did you mean 'x'?" or, if nothing is near, "; one of a, b, c".
std::string suggest(std::string_view word, std::span<const std::string> candidates);

std::string content_hash(ByteView bytes);       // XXH3-128, 32 hex digits
std::string size_text(std::uint64_t bytes);     // 13893504 -> "13.9 MB"

// The shortest decimals that give these bits again, so that what differs looks different: 0.05 stays "0.05".
std::string exact(double value);

// XXH3-128 of data that comes in parts.
class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;
  void add(ByteView bytes);
  void add(std::string_view text) { add(as_bytes(text)); }
  std::string hex() const;

 private:
  void* state_;
};

}  // namespace attar
