#include "distill/tune.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/console.h"
#include "base/error.h"
#include "base/random.h"
#include "base/threads.h"
#include "model/tensor.h"
#include "quantize/pipeline.h"
#include "quantize/tensors.h"
#include "tests/model/models.h"

namespace attar {
namespace {

class TuneOnce : public ::testing::Test {
 protected:
  void SetUp() override {
    set_verbosity(Verbosity::kQuiet);
    set_up_torch(1);
    ModelConfig config = test::tiny_config(Family::kQwen2, 4, 2, 64);  // has biases
    config.hidden_size = 256;
    config.intermediate_size = 256;
    config.layers = 2;
    config.sliding_layers.resize(2);
    const auto decoder = test::tiny_decoder(config);
    const at::NoGradGuard no_grad;
    for (const std::string& name : decoder->parameter_names())
      if (decoder->parameter(name).dim() == 2) decoder->parameter(name).mul_(0.5);
    teacher = to_checkpoint(*decoder, {});
    Random random(1);
    chunks.assign(136, Ids(33));
    for (Ids& chunk : chunks)
      for (std::int64_t& id : chunk) id = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(config.vocab_size)));
    heldout = {chunks.end() - 8, chunks.end()};
    chunks.resize(128);
    options.steps = 40;
    options.batch = 4;
  }
  void TearDown() override { set_verbosity(Verbosity::kNormal); }

  Checkpoint rounded(const char* preset) const {
    QuantizeOptions quantize_options;
    quantize_options.plan.preset = &preset_from_name(preset);
    quantize_options.plan.pure = true;
    quantize_options.plan.overrides.push_back(parse_override("embed_tokens=q8_0"));
    QuantizeReport rounding;
    return quantize(teacher, quantize_options, rounding);
  }
  // Mean divergence from the teacher on text that was not trained on.
  double divergence(const Checkpoint& model) const {
    const at::NoGradGuard no_grad;
    const auto p = load_decoder(teacher), q = load_decoder(model);
    double sum = 0;
    for (const Ids& chunk : heldout) {
      const at::Tensor ids = tensor_of(chunk).unsqueeze(0);
      const at::Tensor log_p = p->forward(ids).log_softmax(-1), log_q = q->forward(ids).log_softmax(-1);
      sum += (log_p.exp() * (log_p - log_q)).sum(-1).mean().item<double>();
    }
    return sum / static_cast<double>(heldout.size());
  }

  Checkpoint teacher;
  std::vector<Ids> chunks, heldout;
  TuneOptions options;
  TuneReport report;
};

class Tune : public TuneOnce, public ::testing::WithParamInterface<const char*> {};

TEST_P(Tune, LowersTheDivergenceAndMovesNoCode) {
  const Checkpoint before = rounded(GetParam());
  const Checkpoint after = tune(teacher, before, chunks, options, report);
  EXPECT_LT(report.kl_after, report.kl_before);
  EXPECT_EQ(report.tokens, 40 * 4 * 32);
  EXPECT_LT(divergence(after), 0.95 * divergence(before));
  int moved = 0;
  ASSERT_EQ(after.tensors.size(), before.tensors.size());
  for (std::size_t i = 0; i < after.tensors.size(); ++i) {
    const Tensor &a = before.tensors[i], &b = after.tensors[i];
    SCOPED_TRACE(a.name);
    ASSERT_EQ(a.name, b.name);
    EXPECT_EQ(a.shape, b.shape);
    EXPECT_EQ(a.type, b.type);
    const QuantizedTensor x = read_packed(a), y = read_packed(b);
    moved += x.bytes != y.bytes;
    if (!info(a.type).quantized || info(a.type).grid.levels == 256) continue;
    const auto columns = static_cast<std::size_t>(x.columns());
    const std::size_t stride = x.bytes.size() / static_cast<std::size_t>(x.rows());
    std::vector<std::uint8_t> codes_x(columns), codes_y(columns);
    for (std::size_t r = 0; r < static_cast<std::size_t>(x.rows()); ++r) {
      read_codes(a.type, ByteView(x.bytes).subspan(r * stride, stride), codes_x);
      read_codes(a.type, ByteView(y.bytes).subspan(r * stride, stride), codes_y);
      ASSERT_EQ(codes_x, codes_y) << "row " << r;
    }
  }
  EXPECT_GT(moved, 12) << "matrices, norms and biases should all have moved";
}

// Adam's first step moves every parameter by the rate. A block with an offset must not be thrown further by it than one without: once
// scale and offset pull in one direction, as d and dmin do where levels are 0 and up, it would be three times as far.
TEST_P(Tune, OneStepMovesABlockByAboutTheRate) {
  options.steps = 1;
  options.rate = 0.02;  // well above the steps of 16-bit floats
  const Checkpoint before = rounded(GetParam());
  const Checkpoint after = tune(teacher, before, chunks, options, report);
  for (const Tensor& tensor : before.tensors) {
    if (!info(tensor.type).quantized || info(tensor.type).grid.levels == 256) continue;
    const at::Tensor w = read_tensor(tensor), moved = read_tensor(after.at(tensor.name)) - w;
    const double share = (moved.norm() / w.norm()).item<double>() / options.rate;
    EXPECT_GT(share, 0.7) << tensor.name;
    EXPECT_LT(share, 1.8) << tensor.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Tune, ::testing::Values("q4_0", "q4_1", "iq4_nl", "q3_k", "q4_k", "int3_g64", "affine4_row"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST_F(TuneOnce, SameSeedSameBytes) {
  options.steps = 5;
  const Checkpoint before = rounded("q4_0");
  const std::string first = checkpoint_hash(tune(teacher, before, chunks, options, report));
  EXPECT_EQ(checkpoint_hash(tune(teacher, before, chunks, options, report)), first);
  options.seed = 1;
  EXPECT_NE(checkpoint_hash(tune(teacher, before, chunks, options, report)), first);
}

// Chunks fewer than threads, waves that are not full, and the whole on one thread.
TEST_F(TuneOnce, SameBytesAtAnyNumberOfThreads) {
  const int before = thread_count();
  options.steps = 3;
  for (const char* preset : {"q4_0", "q4_1", "q3_k"}) {
    const Checkpoint start = rounded(preset);
    std::vector<std::string> hashes;
    std::vector<double> kl;
    for (const int threads : {1, 2, 3, 7}) {
      set_thread_count(threads);
      set_up_torch(threads);
      hashes.push_back(checkpoint_hash(tune(teacher, start, chunks, options, report)));
      kl.push_back(report.kl_after);
      EXPECT_EQ(at::get_num_threads(), threads) << "LibTorch is left with other threads";
    }
    set_thread_count(before);
    set_up_torch(1);
    EXPECT_EQ(hashes, std::vector<std::string>(4, hashes.front())) << preset;
    EXPECT_EQ(kl, std::vector<double>(4, kl.front())) << preset;
  }
}

TEST(TuneMemory, IsThatOfTheModelAndOfEachThread) {
  ModelConfig config;  // 1.1 B, as TinyLlama
  config.hidden_size = 2048, config.intermediate_size = 5632, config.layers = 22, config.vocab_size = 32000;
  config.heads = 32, config.kv_heads = 4, config.head_dim = 64, config.tied_embeddings = false;
  constexpr double kWeights = 1.1e9;
  const auto memory = [&](std::int64_t length, int threads) { return static_cast<double>(tune_memory(config, length, 8, threads)); };
  EXPECT_GT(memory(128, 1), 26 * kWeights);
  EXPECT_LT(memory(128, 1), 30 * kWeights);
  EXPECT_GT(memory(128, 4) - memory(128, 1), 3 * 4 * kWeights);
  EXPECT_EQ(memory(128, 8), memory(128, 64));  // there are 8 chunks in a step
  EXPECT_GT(memory(2048, 1), memory(128, 1));
}

TEST_F(TuneOnce, BadInput) {
  EXPECT_THROW(tune(teacher, rounded("q4_0"), std::vector<Ids>(8, Ids(1)), options, report), Error);
  EXPECT_THROW(tune(teacher, rounded("q4_0"), std::vector<Ids>(8, Ids(static_cast<std::size_t>(teacher.config.max_positions) + 2)), options, report), Error);
  EXPECT_THROW(tune(teacher, rounded("q4_0"), {}, options, report), Error);
  Checkpoint other = rounded("q4_0");
  other.tensors.pop_back();
  EXPECT_THROW(tune(teacher, other, chunks, options, report), Error);
  other = rounded("q4_0");
  other.config.vocab_size = 99;
  EXPECT_THROW(tune(teacher, other, chunks, options, report), Error);
}

}  // namespace
}  // namespace attar
