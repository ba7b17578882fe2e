// The runner on ten small models: against what transformers computes, and its int8 products against its float ones.
#include "runtime/runner.h"

#include <algorithm>
#include <cmath>

#include "base/files.h"
#include "convert/safetensors.h"
#include "tests/support.h"

namespace attar {
namespace {

class RunnerOracle : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const fs::path folder = test::shared("oracles") / GetParam();
    SKIP_WITHOUT(folder);
    checkpoint_ = open_checkpoint(folder);
    expected_ = read_safetensors(folder / "expected_logits.safetensors");
  }
  const Tensor& find(const std::string& name) const {
    for (const Tensor& tensor : expected_.tensors)
      if (tensor.name == name) return tensor;
    throw std::runtime_error("no tensor " + name);
  }
  std::vector<std::int64_t> integers(const std::string& name, std::int64_t row) const {
    const Tensor& tensor = find(name);
    std::vector<std::int64_t> values(static_cast<std::size_t>(tensor.columns()));
    tensor.read_rows(row, row + 1, reinterpret_cast<std::byte*>(values.data()));
    return values;
  }
  Checkpoint quantized(Type type) const {
    Checkpoint packed = checkpoint_;
    for (Tensor& tensor : packed.tensors)
      if (tensor.shape.size() == 2 && tensor.columns() % 32 == 0) tensor = make_tensor(tensor.name, tensor.shape, read_floats(tensor), type);
    return packed;
  }

  Checkpoint checkpoint_;
  SafetensorsFile expected_;
};

double largest_difference(const std::vector<float>& a, const float* b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::fabs(static_cast<double>(a[i]) - b[i]));
  return most;
}

// Mean over tokens of KL(softmax(p) || softmax(q)). (tokens, vocab) each.
double divergence(const std::vector<float>& p, const std::vector<float>& q, std::size_t vocab) {
  double total = 0;
  for (std::size_t t = 0; t < p.size(); t += vocab) {
    const auto log_sum = [&](const std::vector<float>& x) {
      double sum = 0;
      for (std::size_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(x[t + i]));
      return std::log(sum);
    };
    const double P = log_sum(p), Q = log_sum(q);
    for (std::size_t i = 0; i < vocab; ++i) {
      const double log_p = p[t + i] - P;
      total += std::exp(log_p) * (log_p - (q[t + i] - Q));
    }
  }
  return total / (static_cast<double>(p.size()) / static_cast<double>(vocab));
}

TEST_P(RunnerOracle, LogitsOfTransformers) {
  for (const bool exact : {true, false}) {
    Runner runner(checkpoint_, {.exact = exact});
    const std::vector<float> expected = read_floats(find("logits"));
    for (std::int64_t row = 0; row < 2; ++row) {
      runner.clear();
      const std::vector<float> got = runner.feed(integers("input_ids", row), true);
      ASSERT_EQ(2 * got.size(), expected.size());
      const double difference = largest_difference(got, expected.data() + static_cast<std::size_t>(row) * got.size());
      std::printf("[ figure   ] %s, %s: max abs logit difference %.3g\n", GetParam(), exact ? "exact" : "keys and values in f16", difference);
      EXPECT_LE(difference, exact ? 2e-4 : 1e-2);
    }
  }
}

TEST_P(RunnerOracle, SameInPiecesAndTokenByToken) {
  Runner runner(checkpoint_, {.exact = true});
  const auto ids = integers("input_ids", 0);
  const std::vector<float> whole = runner.feed(ids);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, ids.size() - 1}) {
    runner.clear();
    std::vector<float> logits;
    for (std::size_t i = 0; i < ids.size(); i += piece)
      logits = runner.feed(std::span(ids).subspan(i, std::min(piece, ids.size() - i)));
    EXPECT_EQ(runner.length(), std::ssize(ids));
    EXPECT_LE(largest_difference(logits, whole.data()), 1e-4) << piece;
  }
}

TEST_P(RunnerOracle, Int8ActivationsStayClose) {
  for (const Type type : {Type::kQ8_0, Type::kQ4_0}) {
    const Checkpoint packed = quantized(type);
    const auto ids = integers("input_ids", 0);
    Runner floats(packed, {.exact = true}), integers8(packed);
    EXPECT_LT(static_cast<double>(integers8.weight_bytes()), 1.05 * static_cast<double>(packed.tensor_bytes()));
    const std::vector<float> p = floats.feed(ids, true), q = integers8.feed(ids, true);
    const double kl = divergence(p, q, static_cast<std::size_t>(packed.config.vocab_size));
    std::printf("[ figure   ] %s %s: KL %.3g\n", GetParam(), info(type).name, kl);
    EXPECT_LE(kl, 1e-3);
    EXPECT_GT(kl, 1e-12) << "not through the integer kernels";
  }
}

INSTANTIATE_TEST_SUITE_P(All, RunnerOracle,
                         testing::Values("llama", "smollm", "llama3", "qwen2", "qwen3", "mistral", "mistral-swa", "phi3", "gemma2", "gemma3"),
                         [](const auto& oracle) {
                           std::string name = oracle.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(RunnerErrors, IdsOutsideTheVocabulary) {
  const fs::path folder = test::shared("oracles/llama");
  SKIP_WITHOUT(folder);
  Runner runner(open_checkpoint(folder));
  const std::vector<std::int64_t> bad = {1, 1 << 20};
  EXPECT_THROW(runner.feed({}), Error);
  try {
    runner.feed(bad);
    FAIL();
  } catch (const Error& error) {
    EXPECT_HAS(error.what(), "token id 1048576 is outside the vocabulary");
  }
  EXPECT_EQ(runner.length(), 0);
}

}  // namespace
}  // namespace attar
