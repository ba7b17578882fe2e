#include "datasets/tokenizer.h"

#include <algorithm>
#include <limits>
#include <mutex>

#include "base/data.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "convert/checkpoint.h"
#include "datasets/added_tokens.h"
#include "datasets/encoder.h"
#include "datasets/unicode.h"

namespace attar {
namespace {

void check(const TokenizerData& data) {
  const auto size = static_cast<std::int64_t>(data.tokens.size());
  if (size == 0 || size > std::numeric_limits<std::int32_t>::max())
    fail("tokenizer: a vocabulary of ", size, " tokens cannot be used");
  if (!data.types.empty() && data.types.size() != data.tokens.size())
    fail("tokenizer: ", data.types.size(), " token types for ", size, " tokens");
  const auto in_range = [&](std::int64_t id, const char* what) {
    if (id < 0 || id >= size) fail("tokenizer: ", what, " is id ", id, ", outside the vocabulary of ", size, " tokens");
  };
  if (data.add_bos) in_range(data.bos_id, "the BOS token it puts first");
  if (data.add_eos) in_range(data.eos_id, "the EOS token it puts last");
  for (const auto& token : data.added) {
    in_range(token.id, "an added token");
    if (find_invalid_utf8(token.text)) fail("tokenizer: the added token with id ", token.id, " is not UTF-8");
  }
}

// The byte of "<0x0A>", or nothing.
std::optional<char> byte_of(std::string_view token) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  const int high = digit(token[3]), low = digit(token[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

std::string surface_of(const TokenizerData& data, std::size_t id) {
  const std::string& token = data.tokens[id];
  const TokenType type = data.types.empty() ? TokenType::kNormal : data.types[id];
  if (data.kind == TokenizerKind::kByteBpe)
    return type == TokenType::kNormal ? from_byte_alphabet(token).value_or(token) : token;
  if (type == TokenType::kByte || (data.byte_fallback && type == TokenType::kNormal))
    if (const auto byte = byte_of(token)) return std::string(1, *byte);
  if (data.kind == TokenizerKind::kSentencePiece && type == TokenType::kUnknown)
    return " \xE2\x81\x87 ";  // how SentencePiece shows what it does not know
  return metaspace_to_spaces(token);
}

// What the hash encodes beside the vocabulary: cases, digits, spaces, line ends, several scripts, combining marks,
// emoji.
constexpr std::string_view kProbe =
    "The quick brown fox's 12345 jumps,  over\tthe LAZY dog!\r\n\n  don't DON'T ... x_y = [a+b]*3.14;\n"
    "caf\u00e9 cafe\u0301 Stra\u00dfe \u041f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d \u65e5\u672c\u8a9e "
    "\uc548\ub155 "
    "\u0645\u0631\u062d\u0628\u0627 \u0928\u092e\u0938\u094d\u0924\u0947 \U0001f44d\U0001f3fd \u00a0\u3000end \n";

constexpr std::size_t kProbeTokens = 100;  // in one text of the hash
constexpr int kProbes = 2000;

}  // namespace

std::unique_ptr<Encoder> make_encoder(const TokenizerData& data) {
  switch (data.kind) {
    case TokenizerKind::kByteBpe:
      return make_byte_encoder(data);
    case TokenizerKind::kMetaspaceBpe:
      return make_metaspace_encoder(data);
    case TokenizerKind::kSentencePiece:
      return make_sentencepiece_encoder(data);
    case TokenizerKind::kNone:
      break;
  }
  fail("tokenizer: the model has none (no tokenizer.json, tokenizer.model or GGUF vocabulary)");
}

struct Tokenizer::Impl {
  TokenizerData data;
  std::unique_ptr<Encoder> encoder;
  AddedTokenMatcher raw, normalized;  // matched before and after normalisation
  std::vector<std::string> surfaces;  // bytes by id
  std::vector<bool> special;          // by id
  bool strips_space = false;
  std::once_flag hashed;
  std::string hash;

  explicit Impl(TokenizerData given) : data(std::move(given)) {
    if (data.kind != TokenizerKind::kNone) check(data);
    encoder = make_encoder(data);
    special.resize(data.tokens.size());
    surfaces.reserve(data.tokens.size());
    for (std::size_t id = 0; id < data.tokens.size(); ++id) {
      surfaces.push_back(surface_of(data, id));
      special[id] = !data.types.empty() && data.types[id] == TokenType::kControl;
    }
    for (const auto& token : data.added) {
      const auto id = static_cast<std::size_t>(token.id);
      surfaces[id] = data.kind == TokenizerKind::kByteBpe ? token.text : metaspace_to_spaces(token.text);
      special[id] = special[id] || token.special;
      if (token.normalized)
        normalized.add(token, encoder->normalize(token.text));
      else
        raw.add(token, token.text);
    }
    strips_space = data.kind != TokenizerKind::kByteBpe && (data.add_prefix_space || data.remove_extra_spaces);
  }

  void encode_plain(std::string_view text, bool first, Ids& ids) const {
    const std::string normal = encoder->normalize(text);
    normalized.split(
        normal, [&](std::string_view plain) { encoder->encode(plain, first && plain.data() == normal.data(), ids); },
        [&](std::int64_t id) { ids.push_back(id); });
  }

  std::size_t checked(std::int64_t id) const {
    if (id < 0 || id >= static_cast<std::int64_t>(surfaces.size()))
      fail("decode: id ", id, " is outside the vocabulary of ", surfaces.size(), " tokens");
    return static_cast<std::size_t>(id);
  }
};

Tokenizer::Tokenizer(TokenizerData data) : impl_(std::make_unique<Impl>(std::move(data))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

Ids Tokenizer::encode(std::string_view text, bool add_special) const {
  if (const auto offset = find_invalid_utf8(text))
    fail("tokenize: the text is not UTF-8: byte ", *offset, " of ", text.size(), " is 0x", std::hex,
         unsigned{static_cast<unsigned char>(text[*offset])}, "; convert it, for instance with iconv -t UTF-8");
  Ids ids;
  if (add_special && impl_->data.add_bos) ids.push_back(impl_->data.bos_id);
  impl_->raw.split(
      text, [&](std::string_view plain) { impl_->encode_plain(plain, plain.data() == text.data(), ids); },
      [&](std::int64_t id) { ids.push_back(id); });
  if (add_special && impl_->data.add_eos) ids.push_back(impl_->data.eos_id);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int64_t> ids, bool keep_special) const {
  std::string text;
  for (const std::int64_t id : ids)
    if (const std::size_t i = impl_->checked(id); keep_special || !impl_->special[i]) text += impl_->surfaces[i];
  if (impl_->strips_space && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::string_view Tokenizer::bytes_of(std::int64_t id) const { return impl_->surfaces[impl_->checked(id)]; }
bool Tokenizer::is_special(std::int64_t id) const { return impl_->special[impl_->checked(id)]; }
bool Tokenizer::strips_leading_space() const { return impl_->strips_space; }
const TokenizerData& Tokenizer::data() const { return impl_->data; }
std::int64_t Tokenizer::vocab_size() const { return static_cast<std::int64_t>(impl_->data.tokens.size()); }

std::string Tokenizer::hash() const {
  std::call_once(impl_->hashed, [this] {
    const TokenizerData& data = impl_->data;
    std::vector<bool> added(data.tokens.size());
    for (const auto& token : data.added) added[static_cast<std::size_t>(token.id)] = true;
    std::vector<std::string_view> texts;  // of the tokens that stand for text
    for (std::size_t id = 0; id < data.tokens.size(); ++id) {
      const bool normal = data.types.empty() || data.types[id] == TokenType::kNormal;
      if (normal && !added[id] && !find_invalid_utf8(impl_->surfaces[id])) texts.push_back(impl_->surfaces[id]);
    }
    ContentHash hash;
    const auto add = [&](std::string_view probe) {
      Ids ids = {-1};  // stays alone where a small vocabulary lacks a byte
      try {
        ids = encode(probe, true);
      } catch (const Interrupted&) {
        throw;
      } catch (const Error&) {
      }
      hash.add(std::as_bytes(std::span(ids)));
    };
    add(kProbe);
    for (std::size_t begin = 0; begin < texts.size(); begin += kProbeTokens) {
      std::string probe;
      for (std::size_t i = begin; i < std::min(texts.size(), begin + kProbeTokens); ++i) (probe += texts[i]) += '\n';
      add(probe);
    }
    Random random(0);  // neighbours that show in which order pieces are joined
    for (int i = 0; i < kProbes && !texts.empty(); ++i) {
      std::string probe;
      for (std::size_t k = 0; k < kProbeTokens; ++k) probe += texts[random.below(texts.size())];
      add(probe);
    }
    impl_->hash = hash.hex();
  });
  return impl_->hash;
}

void check_vocabulary(const TokenizerData& data, std::int64_t vocab_size, std::string_view subject) {
  if (static_cast<std::int64_t>(data.tokens.size()) > vocab_size)
    fail(subject, ": the tokenizer has ", data.tokens.size(), " tokens, the model embeddings for only ", vocab_size,
         "; the tokenizer is not this model's");
}

Tokenizer load_tokenizer(const fs::path& name) {
  const fs::path path = model_path(name.string());
  if (path.extension() == ".gguf") {
    Checkpoint checkpoint = open_checkpoint(path);
    check_vocabulary(checkpoint.tokenizer, checkpoint.config.vocab_size, path.string());
    return Tokenizer(std::move(checkpoint.tokenizer));
  }
  TokenizerData data = read_tokenizer_data(path);
  if (data.kind == TokenizerKind::kNone)
    fail(path.string(), ": no tokenizer here; expected a tokenizer.json or a tokenizer.model");
  // Any model's folder will do, also one of an architecture that Attar does not know.
  if (const fs::path config = path / "config.json"; fs::is_directory(path) && fs::exists(config)) {
    const auto json = nlohmann::json::parse(read_text_file(config), nullptr, false);
    const auto* level = json.is_object() && json.contains("text_config") ? &json["text_config"] : &json;
    if (level->is_object() && level->contains("vocab_size") && (*level)["vocab_size"].is_number_integer())
      check_vocabulary(data, (*level)["vocab_size"].get<std::int64_t>(), path.string());
  }
  return Tokenizer(std::move(data));
}

std::string StreamDecoder::push(std::int64_t id) {
  if (tokenizer_.is_special(id)) return {};
  pending_ += tokenizer_.bytes_of(id);
  if (at_start_ && !pending_.empty()) {
    if (tokenizer_.strips_leading_space() && pending_.starts_with(' ')) pending_.erase(0, 1);
    at_start_ = false;
  }
  // Keep back what may still become a character: at most the last three bytes.
  std::size_t whole = pending_.size();
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, pending_.size()); ++back) {
    const char lead = pending_[pending_.size() - back];
    if ((static_cast<unsigned char>(lead) & 0xc0) == 0x80) continue;
    if (static_cast<unsigned char>(lead) >= 0xc2 && utf8_length(lead) > back) whole = pending_.size() - back;
    break;
  }
  std::string text = pending_.substr(0, whole);
  pending_.erase(0, whole);
  return text;
}

std::string StreamDecoder::finish() {
  at_start_ = true;
  return std::exchange(pending_, {});
}

}  // namespace attar
