#include "distill/candidates.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/files.h"
#include "datasets/corpus.h"
#include "distill/data.h"
#include "distill/held_out_loss.h"
#include "distill/shape_search.h"
#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

// What a model says of chunks, by the definition: (tokens, vocab) log-probabilities and (tokens) what follows.
std::pair<at::Tensor, at::Tensor> said(Decoder& decoder, const std::vector<Chunk>& chunks) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> log_p, next;
  for (const Chunk& chunk : chunks) {
    const at::Tensor ids = at::tensor(chunk.ids);
    log_p.push_back(at::log_softmax(decoder.forward(ids.narrow(0, 0, ids.size(0) - 1).unsqueeze(0)).to(at::kDouble), -1).squeeze(0));
    next.push_back(ids.narrow(0, 1, ids.size(0) - 1));
  }
  return {at::cat(log_p), at::cat(next)};
}
double mean_kl(Decoder& teacher, Decoder& student, const std::vector<Chunk>& chunks) {
  const at::Tensor p = said(teacher, chunks).first, q = said(student, chunks).first;
  return (p.exp() * (p - q)).sum(-1).mean().item<double>();
}
double mean_loss(Decoder& decoder, const std::vector<Chunk>& chunks) {
  const auto [log_p, next] = said(decoder, chunks);
  return -log_p.gather(1, next.unsqueeze(1)).mean().item<double>();
}

TEST(HeldOutLoss, IsTheMeanOverTargets) {
  const auto decoder = test::tiny_decoder(1);
  const auto chunks = test::tiny_chunks(5, 20, 2);
  EXPECT_NEAR(held_out_loss(*decoder, chunks, 2), mean_loss(*decoder, chunks), 1e-5);
  EXPECT_HAS(test::error_of([&] { held_out_loss(*decoder, {}, 2); }), "there is no text");
}

// A teacher that has something to say, text with words, and what is needed to cut it.
class Candidates : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_folder(folder_ / "tokens", -1, test::word_config(true), test::word_tokenizer());
    write_text_file(folder_ / "data.txt", test::tiny_text(800, 1));
    const auto decoder = test::tiny_decoder(4, test::word_config(true));
    {
      const at::NoGradGuard no_grad;
      auto generator = at::detail::createCPUGenerator(4);
      for (const auto& name : decoder->parameter_names())
        if (name.find("norm") == std::string::npos) decoder->parameter(name).copy_(at::randn(decoder->parameter(name).sizes(), generator) * 0.15);
    }
    cutter_.teacher = to_checkpoint(*decoder, read_tokenizer_data(folder_ / "tokens"));
    const Tokenizer tokenizer(cutter_.teacher.tokenizer);
    text_.emplace(tokenizer, (folder_ / "data.txt").string(), "", 2000, 1);
    std::vector<Ids> documents;
    for (const Document& document : text_->training(tokenizer)) documents.push_back(document.ids);
    cutter_.tokens = rank_tokens(cutter_.teacher.tokenizer, documents, {269});
    cutter_.importance = measure_importance(*decoder, sample_chunks(documents, 32, 8, 1), 4);
    options_.tokens = 3000;
    options_.rate = 1e-3;
    options_.context = 32;
    options_.batch = 4;
    options_.seed = 1;
  }
  std::vector<Chunk> heldout(const TokenizerData& tokenizer) const {
    SkipCounts skips;
    return join_documents(text_->heldout(Tokenizer(tokenizer)), options_.context + 1, skips);
  }
  Ranking rank(const std::vector<StudentShape>& shapes) const { return retrain_and_rank(cutter_, shapes, *text_, {}, options_); }

  test::TempFolder folder_;
  Cutter cutter_;
  std::optional<SearchText> text_;
  RetrainOptions options_;
};

TEST_F(Candidates, AreRankedByTheirHeldOutDivergence) {
  const std::vector<StudentShape> shapes = {{3, 32, 16, 2, 272}, {3, 32, 64, 4, 272}, {2, 32, 64, 4, 272}, {3, 16, 64, 4, 272}};
  const Ranking ranking = rank(shapes);
  ASSERT_EQ(ranking.candidates.size(), 4u);
  EXPECT_EQ(ranking.steps, 24);  // 3000 / 128, rounded up
  EXPECT_EQ(ranking.tokens, 24 * 128);
  const auto chunks = heldout(cutter_.teacher.tokenizer);
  EXPECT_EQ(ranking.heldout_tokens, std::ssize(chunks) * 32);
  const auto teacher = load_decoder(cutter_.teacher);
  for (std::size_t i = 0; i < 4; ++i) {
    const TriedShape& candidate = ranking.candidates[i];
    if (i > 0) { EXPECT_GE(candidate.kl(), ranking.candidates[i - 1].kl()); }
    EXPECT_EQ(candidate.vocabulary_cost, 0.0);
    const Checkpoint student = cutter_.student(candidate.shape);
    EXPECT_EQ(candidate.parameters, student.parameter_count());
    EXPECT_EQ(candidate.bytes, hf_bytes(student));
    EXPECT_NEAR(candidate.kl_before, mean_kl(*teacher, *load_decoder(student), chunks), 1e-5);
    if (candidate.kl_before > 1e-6) { EXPECT_LT(candidate.kl_after, candidate.kl_before); }
  }
  EXPECT_EQ(ranking.candidates.front().shape.ffn, 64);  // the teacher itself
  EXPECT_LT(ranking.candidates.front().kl_before, 1e-6);
  // Nothing was missing, so that training could only do harm: it comes back as it was.
  EXPECT_FALSE(ranking.candidates.front().retrained());
  EXPECT_LT(mean_kl(*teacher, *load_decoder(ranking.best), chunks), 1e-6);
}

TEST_F(Candidates, TheBestComesBackRetrained) {
  const std::vector<StudentShape> shapes = {{2, 16, 32, 2, 272}, {3, 16, 64, 4, 272}};
  const Ranking ranking = rank(shapes), again = rank(shapes);
  const auto chunks = heldout(cutter_.teacher.tokenizer);
  EXPECT_TRUE(ranking.candidates.front().retrained());
  EXPECT_NEAR(ranking.candidates.front().kl_after, mean_kl(*load_decoder(cutter_.teacher), *load_decoder(ranking.best), chunks), 1e-5);
  EXPECT_EQ(ranking.best.config.layers, ranking.candidates.front().shape.layers);
  EXPECT_EQ(checkpoint_hash(ranking.best), checkpoint_hash(again.best));
  EXPECT_EQ(ranking.candidates.back().kl_after, again.candidates.back().kl_after);
}

// A student that lost nothing but tokens says what its teacher says of the rest: all that it costs is the text's own loss.
TEST_F(Candidates, AVocabularyCostsWhatTheTextLosesByIt) {
  const Ranking ranking = rank({{3, 32, 64, 4, 258}, {3, 32, 64, 4, 272}});
  const TriedShape& cut = ranking.candidates.back();
  ASSERT_EQ(cut.shape.vocabulary, 258);
  EXPECT_GT(cut.vocabulary_cost, 0.01);
  EXPECT_NEAR(cut.kl_before, cut.vocabulary_cost, 1e-6);
  const Checkpoint part = cutter_.over(258);
  const auto tokens = [&](const TokenizerData& tokenizer) {
    double sum = 0;
    for (const Document& document : text_->heldout(Tokenizer(tokenizer))) sum += static_cast<double>(document.ids.size());
    return sum;
  };
  const double longer = tokens(part.tokenizer) / tokens(cutter_.teacher.tokenizer);
  EXPECT_GT(longer, 1.0);
  EXPECT_NEAR(cut.vocabulary_cost,
              mean_loss(*load_decoder(part), heldout(part.tokenizer)) * longer - mean_loss(*load_decoder(cutter_.teacher), heldout(cutter_.teacher.tokenizer)),
              1e-5);
  EXPECT_EQ(ranking.candidates.front().vocabulary_cost, 0.0);
}

TEST_F(Candidates, TooLittleTextIsNamed) {
  options_.context = 1 << 14;
  EXPECT_HAS(test::error_of([&] { rank({{2, 32, 64, 4, 272}}); }), "does not fill one chunk");
}

}  // namespace
}  // namespace attar
