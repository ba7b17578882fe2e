// The two streams against two whole decoders: the original, and one whose embedding is another.
#include "model/tensor.h"
#include "quantize/streams.h"

#include "quantize/tensors.h"
#include "tests/convert/synthetic.h"
#include "tests/quantize/support.h"
#include "tests/support.h"

namespace attar {
namespace {

class BothStreams : public ::testing::TestWithParam<const char*> {
 protected:
  BothStreams() {
    for (std::int64_t chunk = 0; chunk < 6; ++chunk)
      for (std::int64_t i = 0; i < 20; ++i) chunks_[static_cast<std::size_t>(chunk)].push_back((chunk * 37 + i * 11) % 300);
    const at::Tensor E = read_tensor(model_.at(kTable));
    moved_ = (E + 0.2 * test::normal(E.size(0), E.size(1), 5)).contiguous();
    const float* begin = moved_.data_ptr<float>();
    table_ = make_tensor(kTable, moved_.sizes().vec(), std::vector<float>(begin, begin + moved_.numel()));
  }
  std::unique_ptr<Streams> started(const fs::path& folder = {}) {
    auto streams = std::make_unique<Streams>(model_, chunks_, StreamsOptions{.with_original = true, .targets = true, .again = true, .folder = folder});
    streams->start(table_);
    return streams;
  }
  // Inputs of the layer's `linear`, and what came into its half: (tokens, columns) and (tokens, hidden).
  std::pair<at::Tensor, at::Tensor> inputs(const std::string& linear, bool original) {
    const auto decoder = load_decoder(model_);
    if (!original) decoder->parameter(kTable).set_data(moved_);
    std::vector<at::Tensor> x, h;
    decoder->observer = [&](const std::string& name, const at::Tensor& seen) {
      if (name + ".weight" == linear) x.push_back(seen.reshape({-1, seen.size(-1)}));
    };
    for (const Ids& chunk : chunks_) {
      at::Tensor hidden = decoder->embed(tensor_of(chunk).unsqueeze(0));
      const at::Tensor after = decoder->attention_half(0, hidden);
      h.push_back((linear.find("mlp") == std::string::npos ? hidden : after).squeeze(0));
      decoder->mlp_half(0, after);
    }
    return {at::cat(x), at::cat(h)};
  }
  static constexpr const char* kTable = "model.embed_tokens.weight";
  const OneTorchThread one_thread_;
  const at::NoGradGuard no_grad_;
  Checkpoint model_ = test::make_checkpoint(test::base_config(GetParam(), {{"attention_bias", true}, {"query_pre_attn_scalar", 16}}));
  std::vector<Ids> chunks_{6};
  at::Tensor moved_;
  Tensor table_;
};

void expect_near(const at::Tensor& found, const at::Tensor& expected, const std::string& what) {
  EXPECT_LT((found - expected).abs().max().item<double>(), 2e-4 * expected.abs().max().item<double>()) << what;
}

TEST_P(BothStreams, GiveTheSumsOfEveryInput) {
  const auto streams = started();
  for (const Half half : {Half::kAttention, Half::kMlp}) {
    streams->enter(0, half);
    const std::vector<std::string> linears = streams->linear_weights();
    for (const std::string& linear : linears) {
      const InputSums sums = streams->input_sums(linear);
      const auto [x_q, h_q] = inputs(linear, false);
      const auto [x_fp, h_fp] = inputs(linear, true);
      const at::Tensor W = read_tensor(model_.at(linear));
      expect_near(sums.XtX, at::mm(x_q.t(), x_q), linear);
      EXPECT_EQ(sums.residual.defined(), linear == linears.back() && !model_.config.post_norms) << linear;
      EXPECT_NE(sums.residual.defined(), sums.cross.defined()) << linear;
      if (sums.cross.defined()) expect_near(sums.cross, at::mm(x_fp.t(), x_q), linear);
      if (sums.residual.defined())
        expect_near(sums.residual, at::mm((at::mm(x_fp - x_q, W.t()) + h_fp - h_q).t(), x_q), linear);
    }
    streams->leave();
  }
}

// Where the inputs of the last linear were kept, a half ends with the bytes of one that is run anew.
TEST_P(BothStreams, LeaveFromKeptInputsAsFromTheStart) {
  const test::TempFolder temporary;
  std::vector<std::string> hashes;
  for (const bool kept : {false, true})
    for (const bool in_folder : {false, true}) {
      fs::create_directory(temporary / "f");
      const auto streams = started(in_folder ? temporary / "f" : fs::path());
      for (const Half half : {Half::kAttention, Half::kMlp}) {
        streams->enter(0, half);
        const std::vector<std::string> linears = streams->linear_weights();
        streams->replace(linears.front(), 0.9 * streams->weight(linears.front()));
        if (kept) streams->input_sums(linears.back());
        streams->replace(linears.back(), 0.8 * read_tensor(model_.at(linears.back())));
        streams->leave();
      }
      hashes.push_back(streams->seal());
      EXPECT_FALSE(fs::exists(temporary / "f" / "inputs"));
      fs::remove_all(temporary / "f");
    }
  for (const std::string& hash : hashes) EXPECT_EQ(hash, hashes.front());
}

// Where nothing aims at the original, it is run beside the first wave of text alone, and the error is that of the wave: against whole decoders.
TEST_P(BothStreams, WithoutTargetsTheFirstWaveTellsTheError) {
  const std::size_t wave = kWaveTokens / chunks_.front().size();
  while (chunks_.size() < wave) chunks_.push_back(chunks_[chunks_.size() % 6]);
  for (int more = 0; more < 6; ++more) chunks_.push_back(Ids(chunks_.front().size(), 7));
  const std::string changed = "model.layers.0.mlp.down_proj.weight";
  const at::Tensor W = 0.9 * read_tensor(model_.at(changed));
  Streams streams(model_, chunks_, {.with_original = true});
  streams.start(table_);
  streams.enter(0, Half::kAttention);
  streams.leave();
  streams.enter(0, Half::kMlp);
  streams.input_sums(changed);
  streams.replace(changed, W);
  const double found = streams.leave();

  const auto original = load_decoder(model_), quantized = load_decoder(model_);
  quantized->parameter(kTable).set_data(moved_);
  quantized->parameter(changed).set_data(W);
  double errors = 0, energies = 0;
  for (std::size_t i = 0; i < chunks_.size(); ++i) {
    const at::Tensor ids = tensor_of(chunks_[i]).unsqueeze(0);
    const auto layer = [&](Decoder& decoder) { return decoder.mlp_half(0, decoder.attention_half(0, decoder.embed(ids))); };
    const at::Tensor expected = layer(*original);
    errors += total((layer(*quantized) - expected).square());
    energies += total(expected.square());
    if (i + 1 == wave) {
      EXPECT_NEAR(found, errors / energies, 1e-5 * found);
    }
  }
  EXPECT_GT(std::abs(found - errors / energies), 1e-4 * found);
}

TEST_P(BothStreams, KeptInputsAreForgottenWithWhatMadeThem) {
  std::vector<std::string> hashes;
  for (const bool kept : {false, true}) {
    const auto streams = started();
    streams->enter(0, Half::kMlp);
    const std::vector<std::string> linears = streams->linear_weights();
    if (kept) streams->input_sums(linears.back());
    streams->replace(linears.front(), 0.9 * read_tensor(model_.at(linears.front())));
    streams->leave();
    hashes.push_back(streams->seal());
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

INSTANTIATE_TEST_SUITE_P(Families, BothStreams, ::testing::Values("llama", "qwen2", "phi3", "gemma3_text"));

}  // namespace
}  // namespace attar
