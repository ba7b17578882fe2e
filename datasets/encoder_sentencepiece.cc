// SentencePiece models (Kudo & Richardson 2018, https://arxiv.org/abs/1808.06226) by Google's library.
#include <sentencepiece_processor.h>

#include "base/error.h"
#include "datasets/encoder.h"

namespace attar {
namespace {

class SentencePieceEncoder : public Encoder {
 public:
  explicit SentencePieceEncoder(const TokenizerData& data) {
    const std::string made = data.tokenizer_model.empty() ? sentencepiece_model(data) : std::string();
    const std::string& model = data.tokenizer_model.empty() ? made : data.tokenizer_model;
    if (const auto status = processor_.LoadFromSerializedProto({model.data(), model.size()}); !status.ok())
      fail("tokenizer: SentencePiece does not take the model: ", status.message());
    const auto pieces = static_cast<std::size_t>(processor_.GetPieceSize());
    if (pieces > data.tokens.size())
      fail("tokenizer: the SentencePiece model has ", pieces, " pieces, the vocabulary only ", data.tokens.size(),
           " tokens; they do not belong together");
    std::vector<bool> renamed(data.tokens.size());  // an added token may take the place of a piece
    for (const auto& token : data.added) renamed[static_cast<std::size_t>(token.id)] = true;
    for (std::size_t id = 0; id < pieces; ++id)
      if (renamed[id])
        continue;
      else if (const std::string& piece = processor_.IdToPiece(static_cast<int>(id)); piece != data.tokens[id])
        fail("tokenizer: id ", id, " is '", piece, "' in the SentencePiece model and '", data.tokens[id],
             "' in the vocabulary; they do not belong together");
  }

  std::string normalize(std::string_view text) const override { return std::string(text); }

  void encode(std::string_view text, bool, Ids& ids) const override {
    std::vector<int> tokens;
    if (const auto status = processor_.Encode({text.data(), text.size()}, &tokens); !status.ok())
      fail("tokenize: SentencePiece: ", status.message());
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<Encoder> make_sentencepiece_encoder(const TokenizerData& data) {
  return std::make_unique<SentencePieceEncoder>(data);
}

}  // namespace attar
