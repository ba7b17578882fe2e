#include "datasets/unicode.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <cstdint>
#include <limits>

#include "base/error.h"

namespace attar {
namespace {

char32_t first_character(std::string_view text) {
  UChar32 c = 0;
  [[maybe_unused]] std::size_t i = 0;
  U8_NEXT(reinterpret_cast<const std::uint8_t*>(text.data()), i, text.size(), c);
  return static_cast<char32_t>(c);
}

// Byte offset of the last character; text is not empty.
std::size_t last_character_start(std::string_view text) {
  std::size_t i = text.size() - 1;
  while (i > 0 && (static_cast<unsigned char>(text[i]) & 0xc0) == 0x80) --i;
  return i;
}

bool is_space(char32_t c) { return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_WHITE_SPACE); }

// \w of Unicode Technical Standard 18, Annex C.
bool is_word(char32_t c) {
  const auto character = static_cast<UChar32>(c);
  return u_hasBinaryProperty(character, UCHAR_ALPHABETIC) || u_hasBinaryProperty(character, UCHAR_JOIN_CONTROL) ||
         (U_GET_GC_MASK(character) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0;
}

const icu::Normalizer2& nfc() {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* instance = icu::Normalizer2::getNFCInstance(status);
  if (U_FAILURE(status)) fail("Unicode: ICU gives no NFC normaliser: ", u_errorName(status));
  return *instance;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0;;) {
    const std::size_t found = text.find(from, i);
    out += text.substr(i, found - i);
    if (found == std::string_view::npos) return out;
    out += to;
    i = found + from.size();
  }
}

}  // namespace

void append_utf8(std::string& out, char32_t character) {
  char buffer[4];
  int size = 0;
  U8_APPEND_UNSAFE(buffer, size, static_cast<UChar32>(character));
  out.append(buffer, static_cast<std::size_t>(size));
}

std::size_t leading_space(std::string_view text) {
  std::size_t i = 0;
  while (i < text.size() && is_space(first_character(text.substr(i)))) i += utf8_length(text[i]);
  return i;
}

std::size_t trailing_space(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0) {
    const std::size_t start = last_character_start(text.substr(0, end));
    if (!is_space(first_character(text.substr(start, end - start)))) break;
    end = start;
  }
  return text.size() - end;
}

bool starts_with_word(std::string_view text) { return !text.empty() && is_word(first_character(text)); }
bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word(first_character(text.substr(last_character_start(text))));
}

std::optional<std::string> normalize_nfc(std::string_view text) {
  if (text.size() > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    fail("tokenize: ", text.size(), " bytes of text in one piece; normalisation takes at most 2 GiB; split the text");
  UErrorCode status = U_ZERO_ERROR;
  const icu::StringPiece piece(text.data(), static_cast<std::int32_t>(text.size()));
  if (nfc().isNormalizedUTF8(piece, status) && U_SUCCESS(status)) return std::nullopt;
  std::string out;
  icu::StringByteSink<std::string> sink(&out, piece.length());
  nfc().normalizeUTF8(0, piece, sink, nullptr, status);
  if (U_FAILURE(status)) fail("tokenize: Unicode normalisation failed: ", u_errorName(status));
  return out;
}

std::string spaces_to_metaspace(std::string_view text) { return replace_all(text, " ", kMetaspace); }
std::string metaspace_to_spaces(std::string_view text) { return replace_all(text, kMetaspace, " "); }

const std::array<std::string, 256>& byte_alphabet() {
  static const auto table = [] {
    std::array<std::string, 256> letters;
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
      append_utf8(letters[byte], printable ? byte : next++);
    }
    return letters;
  }();
  return table;
}

std::optional<std::string> from_byte_alphabet(std::string_view text) {
  static const auto bytes = [] {
    std::array<int, 0x144> table;  // the alphabet ends at U+0143
    table.fill(-1);
    for (int byte = 0; byte < 256; ++byte)
      table[first_character(byte_alphabet()[static_cast<std::size_t>(byte)])] = byte;
    return table;
  }();
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += utf8_length(text[i])) {
    const char32_t c = first_character(text.substr(i));
    if (c >= bytes.size() || bytes[c] < 0) return std::nullopt;
    out += static_cast<char>(bytes[c]);
  }
  return out;
}

}  // namespace attar
