#include "model/generate.h"

#include "base/console.h"
#include "model/decoder.h"
#include "model/tensor.h"

namespace attar {
namespace {

constexpr std::int64_t kPromptChunk = 512;  // tokens between two looks at Ctrl-C

class DecoderText final : public TextModel {
 public:
  explicit DecoderText(Decoder& decoder) : decoder_(decoder) {}
  explicit DecoderText(std::shared_ptr<Decoder> decoder) : decoder_(*decoder), owned_(std::move(decoder)) {}

  const ModelConfig& config() const override { return decoder_.config(); }
  std::uint64_t weight_bytes() const override { return decoder_.weight_bytes(); }
  void clear() override { cache_ = {}; }

  std::vector<float> feed(std::span<const std::int64_t> ids, bool all) override {
    const at::NoGradGuard no_grad;
    if (all) return floats_of(decoder_.forward(batch_of(ids), &cache_));
    at::Tensor hidden;
    for (std::size_t done = 0; done < ids.size(); done += kPromptChunk) {
      check_interrupt();
      hidden = decoder_.hidden_states(batch_of(ids.subspan(done, std::min<std::size_t>(kPromptChunk, ids.size() - done))), &cache_);
    }
    return floats_of(decoder_.logits(hidden.narrow(1, hidden.size(1) - 1, 1)));
  }

 private:
  at::Tensor batch_of(std::span<const std::int64_t> ids) const { return tensor_of(ids).unsqueeze(0).to(decoder_.device()); }

  Decoder& decoder_;
  std::shared_ptr<Decoder> owned_;
  KvCache cache_;
};

}  // namespace

std::unique_ptr<TextModel> load_text_model(const Checkpoint& checkpoint, const std::string& device) {
  return std::make_unique<DecoderText>(load_decoder(checkpoint, parse_device(device)));
}

Generated generate(Decoder& decoder, const Tokenizer& tokenizer, const Ids& prompt, const GenerateOptions& options,
                   const std::function<void(std::string_view)>& on_text) {
  DecoderText text(decoder);
  return generate(text, tokenizer, prompt, options, on_text);
}

DecodeRate measure_rates(Decoder& decoder, std::int64_t prompt_tokens, std::int64_t decode_tokens) {
  DecoderText text(decoder);
  return measure_rates(text, prompt_tokens, decode_tokens);
}

}  // namespace attar
