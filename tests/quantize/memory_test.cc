#include "quantize/memory.h"

#include <gtest/gtest.h>

namespace attar {
namespace {

ModelConfig llama_7b() {
  ModelConfig config;
  config.hidden_size = 4096, config.intermediate_size = 11008, config.layers = 32, config.vocab_size = 32000;
  config.heads = config.kv_heads = 32, config.head_dim = 128;
  return config;
}

TEST(Memory, OfASevenBillionModelIsUnderSixGigabytes) {
  EXPECT_LT(calibrated_memory(llama_7b(), 512, 2), 6'000'000'000u);
  // Three matrices of the MLP as floats are in there.
  EXPECT_GT(calibrated_memory(llama_7b(), 512, 1), 3u * 4096 * 11008 * 4);
}

TEST(Memory, LayersCostNothing) {
  ModelConfig deep = llama_7b();
  deep.layers = 1000;
  EXPECT_EQ(calibrated_memory(deep, 512, 2), calibrated_memory(llama_7b(), 512, 2));
}

TEST(Memory, MoreOfAnythingElseCosts) {
  const std::uint64_t base = calibrated_memory(llama_7b(), 512, 2);
  EXPECT_GT(calibrated_memory(llama_7b(), 512, 16), base);
  EXPECT_GT(calibrated_memory(llama_7b(), 16384, 2), base);
  ModelConfig wide = llama_7b();
  wide.intermediate_size *= 2;
  EXPECT_GT(calibrated_memory(wide, 512, 2), base);
}

TEST(Memory, TheOutputMetricComesOnTop) {
  EXPECT_GT(metric_memory(llama_7b(), 512, 2), calibrated_memory(llama_7b(), 512, 2));
  ModelConfig words = llama_7b();
  words.vocab_size = 1'000'000;  // the head's table alone
  EXPECT_GT(metric_memory(words, 512, 2), 4u * 4096 * 1'000'000);
}

TEST(Memory, ARotatedModelHoldsItsLargestMatrix) {
  EXPECT_EQ(rotated_memory(llama_7b(), false), 4u * 4096 * 11008);
  ModelConfig fused = llama_7b();
  fused.fused_qkv = true;
  EXPECT_EQ(rotated_memory(fused, false), 4u * 4096 * 3 * 4096);
  EXPECT_EQ(rotated_memory(llama_7b(), true), 4u * 4096 * (11008 + 2 * 4096));  // R1 in float64
}

TEST(Memory, LearningRotationsTakesNoMoreThanFisher) {
  EXPECT_GT(learning_memory(llama_7b()), 4u * (6u * 4096 * 11008 + 11008u * 11008));  // a matrix a few times over, and H of the widest inputs
  EXPECT_LT(learning_memory(llama_7b()), metric_memory(llama_7b(), 512, 2));
}

TEST(Memory, WholeModelsAsFloats) {
  const double weights = 6.74e9;  // of Llama-2 7B
  for (const auto& [memory, models] : {std::pair(&self_text_memory, 1), {&sensitivity_memory, 1}, {&divergence_memory, 2}}) {
    EXPECT_GT(memory(llama_7b(), 512, 2), static_cast<std::uint64_t>(models * 4 * weights));
    EXPECT_LT(memory(llama_7b(), 512, 2), static_cast<std::uint64_t>(models * 4 * weights + 10e9));
    EXPECT_GT(memory(llama_7b(), 512, 16), memory(llama_7b(), 512, 2));
  }
}

}  // namespace
}  // namespace attar
