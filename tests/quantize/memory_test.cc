#include "quantize/memory.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace attar {
namespace {

ModelConfig llama_7b() {
  ModelConfig config;
  config.hidden_size = 4096, config.intermediate_size = 11008, config.layers = 32, config.vocab_size = 32000;
  config.heads = config.kv_heads = 32, config.head_dim = 128;
  return config;
}

TEST(Memory, OfASevenBillionModelIsUnderSixGigabytes) {
  EXPECT_LT(calibrated_memory(llama_7b(), 8192, 512, 2), 6'000'000'000u);
  // Three matrices of the MLP as floats are in there.
  EXPECT_GT(calibrated_memory(llama_7b(), 2048, 512, 1), 3u * 4096 * 11008 * 4);
}

TEST(Memory, LayersCostNothing) {
  ModelConfig deep = llama_7b();
  deep.layers = 1000;
  EXPECT_EQ(calibrated_memory(deep, 8192, 512, 2), calibrated_memory(llama_7b(), 8192, 512, 2));
}

TEST(Memory, WavesShrinkToFitAndThenItIsRefused) {
  const auto bytes = [](std::int64_t wave) { return calibrated_memory(llama_7b(), wave, 512, 2); };
  EXPECT_EQ(fitting_wave(llama_7b(), 512, 2, 0), 8192);
  EXPECT_EQ(fitting_wave(llama_7b(), 512, 2, bytes(8192)), 8192);
  EXPECT_LT(fitting_wave(llama_7b(), 512, 2, bytes(8192) - 1), 8192);
  EXPECT_EQ(fitting_wave(llama_7b(), 512, 2, bytes(2048)), 2048);
  try {
    fitting_wave(llama_7b(), 512, 2, 1'000'000'000);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("--max-memory allows 1.00 GB, calibrating this model takes at least"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace attar
