#include "base/files.h"
#include "convert/checkpoint.h"
#include "convert/json.h"
#include "convert/safetensors.h"
#include "tests/support.h"

namespace attar {
namespace {

TEST(OpenHf, OraclesOpenWithTheirTensors) {
  SKIP_WITHOUT(test::shared("oracles"));
  const char* names[] = {"llama",   "smollm",      "llama3", "qwen2",  "qwen3",
                         "mistral", "mistral-swa", "phi3",   "gemma2", "gemma3"};
  for (const char* name : names) {
    const Checkpoint checkpoint = open_checkpoint(test::shared("oracles") / name);
    EXPECT_EQ(checkpoint.tensors.size(), parameters(checkpoint.config).size()) << name;
    EXPECT_EQ(checkpoint.config.vocab_size, 512) << name;
    EXPECT_EQ(checkpoint.tokenizer.kind, TokenizerKind::kSentencePiece) << name;
    const std::vector<float> row = read_floats(checkpoint.at("model.embed_tokens.weight"), 3, 4);
    EXPECT_EQ(row.size(), static_cast<std::size_t>(checkpoint.config.hidden_size));
    const ModelConfig again = parse_config(config_json(checkpoint.config), "again");
    EXPECT_EQ(config_json(again), config_json(checkpoint.config)) << name;
    EXPECT_EQ(again.sliding_layers, checkpoint.config.sliding_layers) << name;
  }
}

TEST(OpenHf, ReadsPlainTensors) {
  SKIP_WITHOUT(test::shared("oracles/llama"));
  const SafetensorsFile file = read_safetensors(test::shared("oracles/llama/expected_logits.safetensors"));
  for (const Tensor& tensor : file.tensors) {
    if (tensor.name == "input_ids") {
      EXPECT_EQ(tensor.type, Type::kI64);
    }
    if (tensor.name == "logits") {
      EXPECT_EQ(tensor.shape, (Shape{2, 64, 512}));
    }
  }
}

}  // namespace
}  // namespace attar
