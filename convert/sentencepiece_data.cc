#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "convert/tokenizer_parts.h"
#include "sentencepiece.pb.h"

namespace attar {

TokenizerData parse_sentencepiece(std::string_view bytes, std::string_view source) {
  spm::ModelProto model;
  if (bytes.size() > std::size_t{INT32_MAX} || !model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    fail(source, ": not a SentencePiece model; it is truncated or something else");
  if (model.pieces_size() == 0) fail(source, ": the SentencePiece model has no pieces");
  if (model.pieces_size() > kMaxTokens)
    fail(source, ": ", model.pieces_size(), " pieces; at most ", kMaxTokens, " are read");

  TokenizerData data;
  data.kind = TokenizerKind::kSentencePiece;
  const spm::TrainerSpec& trainer = model.trainer_spec();
  const spm::NormalizerSpec& normalizer = model.normalizer_spec();
  if (trainer.model_type() == spm::TrainerSpec::WORD || trainer.model_type() == spm::TrainerSpec::CHAR)
    fail(source, ": SentencePiece word and character models are not supported; expected BPE or unigram");
  data.unigram = trainer.model_type() == spm::TrainerSpec::UNIGRAM;
  data.byte_fallback = trainer.byte_fallback();
  data.add_prefix_space = normalizer.add_dummy_prefix();
  data.remove_extra_spaces = normalizer.remove_extra_whitespaces();
  data.charsmap = normalizer.precompiled_charsmap();
  for (const auto& piece : model.pieces()) {
    if (piece.piece().empty()) fail(source, ": piece ", data.tokens.size(), " is empty");
    if (!std::isfinite(piece.score())) fail(source, ": piece ", data.tokens.size(), " has no finite score");
    data.tokens.push_back(piece.piece());
    data.scores.push_back(piece.score());
    data.types.push_back(static_cast<TokenType>(piece.type()));
    if (piece.type() == spm::ModelProto::SentencePiece::UNKNOWN && data.unk_id < 0)
      data.unk_id = static_cast<std::int64_t>(data.tokens.size()) - 1;
  }
  const auto id = [&](int value) { return value >= 0 && value < model.pieces_size() ? std::int64_t{value} : -1; };
  data.bos_id = id(trainer.bos_id());
  data.eos_id = id(trainer.eos_id());
  data.pad_id = id(trainer.pad_id());
  data.add_bos = data.bos_id >= 0;  // as LlamaTokenizer and GemmaTokenizer do
  data.tokenizer_model = std::string(bytes);
  return data;
}

std::string cut_sentencepiece(const TokenizerData& tokenizer, const std::vector<std::int64_t>& kept) {
  spm::ModelProto model;
  const std::string& bytes = tokenizer.tokenizer_model;
  if (!model.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return {};
  spm::ModelProto whole = model;
  model.clear_pieces();
  model.clear_self_test_data();  // encodings that hold no longer
  auto* trainer = model.mutable_trainer_spec();
  const auto renumber = [&](int id) {
    const auto found = std::lower_bound(kept.begin(), kept.end(), std::int64_t{id});
    return found == kept.end() || *found != id ? -1 : static_cast<int>(found - kept.begin());
  };
  for (const std::int64_t id : kept) {
    if (id >= whole.pieces_size()) break;  // tokens added since
    const auto& piece = whole.pieces(static_cast<int>(id));
    if (piece.piece() != tokenizer.tokens[static_cast<std::size_t>(id)]) return {};
    *model.add_pieces() = piece;
  }
  trainer->set_vocab_size(model.pieces_size());
  trainer->set_unk_id(renumber(trainer->unk_id()));
  trainer->set_bos_id(renumber(trainer->bos_id()));
  trainer->set_eos_id(renumber(trainer->eos_id()));
  trainer->set_pad_id(renumber(trainer->pad_id()));
  return model.SerializeAsString();
}

std::string sentencepiece_model(const TokenizerData& tokenizer) {
  if (!tokenizer.tokenizer_model.empty()) return tokenizer.tokenizer_model;
  if (tokenizer.kind != TokenizerKind::kSentencePiece)
    fail("make SentencePiece model: this tokenizer is of another kind");
  spm::ModelProto model;
  for (std::size_t i = 0; i < tokenizer.tokens.size(); ++i) {
    auto* piece = model.add_pieces();
    piece->set_piece(tokenizer.tokens[i]);
    piece->set_score(i < tokenizer.scores.size() ? tokenizer.scores[i] : 0.0f);
    piece->set_type(static_cast<spm::ModelProto::SentencePiece::Type>(tokenizer.types[i]));
  }
  auto* trainer = model.mutable_trainer_spec();
  trainer->set_model_type(tokenizer.unigram ? spm::TrainerSpec::UNIGRAM : spm::TrainerSpec::BPE);
  trainer->set_vocab_size(static_cast<int>(tokenizer.tokens.size()));
  trainer->set_byte_fallback(tokenizer.byte_fallback);
  const auto piece_of = [&](std::int64_t id) { return tokenizer.tokens.at(static_cast<std::size_t>(id)); };
  trainer->set_unk_id(static_cast<int>(tokenizer.unk_id));
  trainer->set_bos_id(static_cast<int>(tokenizer.bos_id));
  trainer->set_eos_id(static_cast<int>(tokenizer.eos_id));
  trainer->set_pad_id(static_cast<int>(tokenizer.pad_id));
  if (tokenizer.unk_id >= 0) trainer->set_unk_piece(piece_of(tokenizer.unk_id));
  if (tokenizer.bos_id >= 0) trainer->set_bos_piece(piece_of(tokenizer.bos_id));
  if (tokenizer.eos_id >= 0) trainer->set_eos_piece(piece_of(tokenizer.eos_id));
  if (tokenizer.pad_id >= 0) trainer->set_pad_piece(piece_of(tokenizer.pad_id));
  auto* normalizer = model.mutable_normalizer_spec();
  normalizer->set_name("identity");
  normalizer->set_precompiled_charsmap(tokenizer.charsmap);
  normalizer->set_add_dummy_prefix(tokenizer.add_prefix_space);
  normalizer->set_remove_extra_whitespaces(tokenizer.remove_extra_spaces);
  normalizer->set_escape_whitespaces(true);
  return model.SerializeAsString();
}

}  // namespace attar
