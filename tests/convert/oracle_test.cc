#include "convert/checkpoint.h"
#include "tests/support.h"

namespace attar {
namespace {

// Every oracle through GGUF and back: the same config where it matters, the same floats.
TEST(Oracles, SurviveTheRoundTrip) {
  SKIP_WITHOUT(test::shared("oracles"));
  const char* names[] = {"llama",   "smollm",      "llama3", "qwen2",  "qwen3",
                         "mistral", "mistral-swa", "phi3",   "gemma2", "gemma3"};
  const test::TempFolder folder;
  for (const char* name : names) {
    const Checkpoint before = open_checkpoint(test::shared("oracles") / name);
    write_gguf(before, folder / "model.gguf");
    const Checkpoint after = open_checkpoint(folder / "model.gguf");
    ASSERT_EQ(after.tensors.size(), before.tensors.size()) << name;
    for (std::size_t i = 0; i < before.tensors.size(); ++i) {
      EXPECT_EQ(after.tensors[i].name, before.tensors[i].name);
      std::vector<float> expected = read_floats(before.tensors[i]);
      // GGUF holds Gemma's norms as 1 + w in single precision, which costs a small w its last bits.
      if (before.config.norm_adds_one && before.tensors[i].name.ends_with("norm.weight"))
        for (float& w : expected) w = (w + 1.0f) - 1.0f;
      EXPECT_EQ(read_floats(after.tensors[i]), expected) << name << " " << before.tensors[i].name;
    }
    EXPECT_EQ(after.tokenizer.tokens, before.tokenizer.tokens) << name;
    EXPECT_EQ(after.tokenizer.scores, before.tokenizer.scores) << name;
    EXPECT_EQ(after.config.rope.type, before.config.rope.type) << name;
    EXPECT_EQ(after.config.norm_eps, before.config.norm_eps) << name;
    EXPECT_EQ(after.config.sliding_layers, before.config.sliding_layers) << name;
  }
}

}  // namespace
}  // namespace attar
