// What tokenizers need to know of Unicode. All text is well-formed UTF-8.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace attar {

inline constexpr std::string_view kMetaspace = "\xE2\x96\x81";  // U+2581, SentencePiece's visible space

// Bytes of the character that starts with `lead`.
constexpr std::size_t utf8_length(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

void append_utf8(std::string& out, char32_t character);

// Length in bytes of the white space (Unicode's White_Space) that text starts or ends with.
std::size_t leading_space(std::string_view text);
std::size_t trailing_space(std::string_view text);
// Whether text starts or ends with a character of a word: a letter, mark, decimal digit or connecting punctuation.
bool starts_with_word(std::string_view text);
bool ends_with_word(std::string_view text);

// Unicode normalisation form C, or nothing if text is in that form already.
std::optional<std::string> normalize_nfc(std::string_view text);

// Spaces become U+2581, and back.
std::string spaces_to_metaspace(std::string_view text);
std::string metaspace_to_spaces(std::string_view text);

// GPT-2's byte alphabet (Radford et al. 2019, encoder.py, https://github.com/openai/gpt-2): every byte is one printable
// character; printable Latin-1 stands for itself, the other 68 bytes are U+0100, U+0101, ... in order.
const std::array<std::string, 256>& byte_alphabet();
// Text in that alphabet back to bytes; nothing if it holds a character that is not in it.
std::optional<std::string> from_byte_alphabet(std::string_view text);

}  // namespace attar
