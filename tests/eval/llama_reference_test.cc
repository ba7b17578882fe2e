// llama.cpp's files of logits, made here as its perplexity.cpp makes them.
#include "eval/llama_reference.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kContext = 8, kVocab = 101, kChunks = 3;  // an odd vocabulary is padded

class LlamaReferenceTest : public ::testing::Test {
 protected:
  LlamaReferenceTest() {
    Random random(1);
    out_.append(as_bytes("_logits_"));
    for (const std::int64_t n : {kContext, kVocab, kChunks}) out_.write(static_cast<std::int32_t>(n));
    for (std::int64_t i = 0; i < kChunks * kContext; ++i) out_.write(static_cast<std::int32_t>(random.below(kVocab)));
    for (std::int64_t p = 0; p < kChunks * scored_per_chunk(kContext); ++p) {
      std::vector<float> logits(kVocab);
      for (float& v : logits) v = static_cast<float>(8 * random.uniform());
      const float most = *std::max_element(logits.begin(), logits.end()), least = *std::min_element(logits.begin(), logits.end());
      double sum = 0;
      for (const float v : logits) sum += std::exp(v - most);
      const float scale = (most - least) / 65535.0f;
      out_.write(scale), out_.write(least - most - static_cast<float>(std::log(sum)));
      for (const float v : logits) out_.write(static_cast<std::uint16_t>(std::lround((v - least) / scale)));
      out_.write(std::uint16_t{0});
      rows_.push_back(std::move(logits));
    }
  }
  std::string error(const Bytes& bytes) {
    write_text_file(folder_ / "base", std::string(as_text(bytes)));
    return test::error_of([&] { LlamaReference(folder_ / "base"); });
  }

  test::TempFolder folder_;
  ByteWriter out_;
  std::vector<std::vector<float>> rows_;
};

TEST_F(LlamaReferenceTest, ScoresAreThoseOfTheLogits) {
  ASSERT_EQ(error(out_.bytes()), "no error");
  ASSERT_TRUE(is_llama_reference(folder_ / "base"));
  const LlamaReference file(folder_ / "base");
  EXPECT_EQ(file.context(), kContext);
  EXPECT_EQ(file.vocab_size(), kVocab);
  ASSERT_EQ(file.chunks().size(), static_cast<std::size_t>(kChunks));
  Random random(2);
  for (std::size_t p = 0; p < rows_.size(); ++p) {
    std::vector<float> model = rows_[p];
    for (float& v : model) v += static_cast<float>(random.uniform() - 0.5);
    const auto target = static_cast<std::int64_t>(random.below(kVocab));
    const PairScore got = file.score(p, model, target), wanted = score_rows(model, rows_[p], target);
    constexpr double kHalfStep = 8.0 / 65535 / 2 + 2e-6;  // of every ln p, and so of their mean
    EXPECT_NEAR(got.kl, wanted.kl, kHalfStep);
    EXPECT_NEAR(got.acceptance, wanted.acceptance, kHalfStep);
    EXPECT_NEAR(got.reference.nll, wanted.reference.nll, kHalfStep);
    EXPECT_EQ(got.reference.top, wanted.reference.top);
    EXPECT_EQ(got.model.nll, wanted.model.nll);
    EXPECT_EQ(got.model.top, wanted.model.top);
  }
}

TEST_F(LlamaReferenceTest, EveryTruncationIsAnError) {
  const Bytes whole = out_.bytes();
  for (std::size_t size = 1; size < whole.size(); size += size < 140 ? 1 : 97)
    EXPECT_NE(error(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))), "no error") << size;
}

TEST_F(LlamaReferenceTest, NumbersThatContradictEachOther) {
  const auto with = [&](std::size_t at, std::int32_t value) {
    Bytes bytes = out_.bytes();
    std::memcpy(bytes.data() + at, &value, sizeof(value));
    return error(bytes);
  };
  EXPECT_HAS(with(8, 2), "chunks of 2 tokens");
  EXPECT_HAS(with(12, -1), "a vocabulary of -1");
  EXPECT_HAS(with(16, 2), "llama-perplexity was stopped, or the file is damaged");
  EXPECT_HAS(with(16, 0x7fffffff), "tokens");
  EXPECT_HAS(with(20, 101), "token 101 is outside the vocabulary of 101");
  EXPECT_HAS(with(20, -5), "token -5");
}

}  // namespace
}  // namespace attar
