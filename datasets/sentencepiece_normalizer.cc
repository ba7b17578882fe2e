// The table is a u32 size, a trie of that many bytes, and zero-terminated replacements; values of the trie are offsets
// into those (sentencepiece, src/normalizer.cc). The trie is a double array in darts-clone's layout
// (https://github.com/s-yata/darts-clone): a unit has its label in bits 0-7 and 31, "has a leaf" in bit 8, the offset
// of its children in bits 10-30, to be shifted by 8 if bit 9 is set; a leaf has its value in bits 0-30.
#include "datasets/sentencepiece_normalizer.h"

#include <cstring>

#include "base/bytes.h"
#include "base/error.h"
#include "datasets/unicode.h"

namespace attar {
namespace {

std::uint32_t label_of(std::uint32_t unit) { return unit & 0x800000ffu; }
bool has_leaf(std::uint32_t unit) { return (unit >> 8 & 1u) != 0; }
std::size_t offset_of(std::uint32_t unit) { return std::size_t{unit >> 10} << ((unit & 0x200u) != 0 ? 8 : 0); }
std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7fffffffu; }

}  // namespace

SentencePieceNormalizer::SentencePieceNormalizer(const TokenizerData& data, const ByteTrie& user_defined)
    : user_defined_(user_defined), add_prefix_(data.add_prefix_space), remove_extra_(data.remove_extra_spaces) {
  if (data.charsmap.empty()) return;
  ByteReader reader(as_bytes(data.charsmap), "tokenizer: SentencePiece's precompiled_charsmap");
  const auto size = reader.read<std::uint32_t>("size of the trie");
  const ByteView trie = reader.take(size, "trie");
  if (size == 0 || size % 4 != 0) fail(reader.what(), ": a trie of ", size, " bytes; expected a multiple of 4");
  trie_.resize(size / 4);
  std::memcpy(trie_.data(), trie.data(), size);
  replacements_ = as_text(reader.take(reader.remaining(), "replacements"));
  if (!replacements_.ends_with('\0')) fail(reader.what(), ": the replacements do not end with a zero byte");
}

SentencePieceNormalizer::Prefix SentencePieceNormalizer::normalize_prefix(std::string_view text,
                                                                          std::size_t begin) const {
  if (const auto match = user_defined_.longest_at(text, begin); match.length > 0)
    return {match.length, text.substr(begin, match.length)};
  const auto unit = [&](std::size_t position) {
    if (position >= trie_.size()) fail("tokenizer: SentencePiece's precompiled_charsmap points outside itself");
    return trie_[position];
  };
  Prefix found = {0, {}};
  if (!trie_.empty()) {
    std::size_t node = offset_of(unit(0));
    for (std::size_t i = begin; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      node ^= byte;
      const std::uint32_t child = node < trie_.size() ? trie_[node] : 0;
      if (child == 0 || label_of(child) != byte) break;
      node ^= offset_of(child);
      if (!has_leaf(child)) continue;
      const std::uint32_t at = value_of(unit(node));
      if (at >= replacements_.size()) fail("tokenizer: SentencePiece's precompiled_charsmap points outside itself");
      found = {i + 1 - begin, std::string_view(replacements_.c_str() + at)};
    }
  }
  if (found.length > 0) return found;
  const std::size_t length = utf8_length(text[begin]);
  return {length, text.substr(begin, length)};
}

std::string SentencePieceNormalizer::normalize(std::string_view text) const {
  if (trie_.empty() && !remove_extra_)  // by far the most models
    return text.empty() ? std::string() : (add_prefix_ ? std::string(kMetaspace) : "") + spaces_to_metaspace(text);
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  bool after_space = remove_extra_;  // spaces here are extra
  for (std::size_t i = 0; i < text.size();) {
    auto [length, replacement] = normalize_prefix(text, i);
    i += length;
    while (after_space && replacement.starts_with(' ')) replacement.remove_prefix(1);
    if (replacement.empty()) continue;
    if (out.empty() && add_prefix_) out = kMetaspace;
    out += spaces_to_metaspace(replacement);
    after_space = remove_extra_ && replacement.ends_with(' ');
  }
  while (remove_extra_ && out.ends_with(kMetaspace)) out.resize(out.size() - kMetaspace.size());
  return out;
}

}  // namespace attar
