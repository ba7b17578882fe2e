// Gradients of ten families through the trainer's own forward, loss and backward, against transformers in float32.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "convert/safetensors.h"
#include "distill/trainer.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

class OracleGradients : public ::testing::TestWithParam<const char*> {};

std::vector<Ids> input_ids(const fs::path& file) {
  for (const Tensor& tensor : read_safetensors(file).tensors) {
    if (tensor.name != "input_ids") continue;
    const QuantizedTensor packed = read_packed(tensor);
    std::vector<Ids> rows;
    const auto* ids = reinterpret_cast<const std::int64_t*>(packed.bytes.data());
    for (std::int64_t row = 0; row < tensor.rows(); ++row)
      rows.emplace_back(ids + row * tensor.columns(), ids + (row + 1) * tensor.columns());
    return rows;
  }
  return {};
}

TEST_P(OracleGradients, ThroughTheTrainer) {
  const fs::path folder = test::shared(std::string("oracles/") + GetParam());
  SKIP_WITHOUT(folder);
  const auto expected = nlohmann::json::parse(read_text_file(folder / "expected_grads.json"));
  const auto decoder = load_decoder(open_checkpoint(folder));
  const std::vector<Ids> ids = input_ids(folder / "expected_logits.safetensors");
  const std::vector<Chunk> chunks(ids.begin(), ids.end());
  ASSERT_EQ(chunks.size(), 2u);
  const auto data = shuffled_chunks(chunks, 1);
  TrainerOptions options;
  options.context = static_cast<std::int64_t>(chunks[0].ids.size()) - 1;
  Trainer trainer(*decoder, nullptr, *data, options);
  const std::int64_t targets = 2 * options.context;
  const LossSums sums = trainer.accumulate(chunks, targets);
  const double loss = expected.at("loss").get<double>();
  EXPECT_NEAR(sums.cross_entropy.item<double>() / static_cast<double>(targets), loss, 1e-5 * loss);
  std::size_t compared = 0;
  for (const auto& [name, numbers] : expected.at("grad_norm_then_first4").items()) {
    if (!decoder->has_parameter(name)) continue;  // lm_head of a tied model
    ++compared;
    const at::Tensor gradient = decoder->parameter(name).grad().flatten();
    const double norm = numbers[0].get<double>();
    EXPECT_NEAR(gradient.norm().item<double>(), norm, 1e-3 * norm) << name;
    // A single element may be a small difference of large terms: what counts is the error against the typical element.
    const double typical = norm / std::sqrt(static_cast<double>(gradient.numel()));
    for (int i = 0; i < 4; ++i) {
      const double value = numbers[i + 1].get<double>();
      EXPECT_NEAR(gradient[i].item<double>(), value, 1e-3 * std::max(std::abs(value), typical)) << name << " " << i;
    }
  }
  EXPECT_EQ(compared, decoder->parameter_names().size());
}

INSTANTIATE_TEST_SUITE_P(Families, OracleGradients,
                         ::testing::Values("llama", "smollm", "llama3", "qwen2", "qwen3", "mistral", "mistral-swa", "phi3",
                                           "gemma2", "gemma3"));

}  // namespace
}  // namespace attar
