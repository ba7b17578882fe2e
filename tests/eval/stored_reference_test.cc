#include "eval/stored_reference.h"

#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/random.h"
#include "tests/support.h"

namespace attar {
namespace {

constexpr std::int64_t kVocab = 4000;

// Logits of a flat enough distribution that a tail remains, and what a slightly different model says.
struct Rows {
  std::vector<std::vector<float>> reference, model;
  std::vector<std::int64_t> targets;
};

Rows rows(std::size_t count, double spread, double noise, std::int64_t vocab = kVocab) {
  Random random(3);
  const auto normal = [&] {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += random.uniform();
    return sum;
  };
  Rows result;
  for (std::size_t r = 0; r < count; ++r) {
    std::vector<float> a, b;
    for (std::int64_t i = 0; i < vocab; ++i) {
      a.push_back(static_cast<float>(spread * normal()));
      b.push_back(a.back() + static_cast<float>(noise * normal()));
    }
    result.reference.push_back(a), result.model.push_back(b);
    result.targets.push_back(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(vocab))));
  }
  return result;
}

class Stored : public ::testing::Test {
 protected:
  fs::path write(const Rows& rows, std::int64_t vocab = kVocab) {
    TextPlan plan;
    std::vector<Bytes> positions;
    for (std::size_t r = 0; r < rows.targets.size(); ++r) {
      plan.sequences.push_back({{1, rows.targets[r]}, 0, 1, r});
      plan.bytes.push_back(4), plan.words.push_back(0);
      positions.push_back(encode_position(rows.reference[r], rows.targets[r], r));
    }
    ModelSummary model{.path = "m", .hash = "h", .architecture = "llama", .vocab_size = vocab};
    Protocol protocol{.data = "text", .data_hash = "d", .tokenizer_hash = "t", .context = 2};
    write_reference(folder_ / "r.ref", model, protocol, plan, positions);
    return folder_ / "r.ref";
  }
  test::TempFolder folder_;
};

TEST_F(Stored, MeansAreThoseOfWholeRows) {
  for (const double spread : {1.0, 2.5}) {
    const Rows all = rows(400, spread, 0.3);
    const StoredReference stored(write(all));
    double kl = 0, exact = 0, accepted = 0, exactly = 0;
    for (std::size_t r = 0; r < all.targets.size(); ++r) {
      const PairScore a = stored.score(r, all.model[r], all.targets[r]);
      const PairScore b = score_rows(all.model[r], all.reference[r], all.targets[r]);
      EXPECT_EQ(a.reference.nll, b.reference.nll);
      EXPECT_EQ(a.model.nll, b.model.nll);
      EXPECT_EQ(a.reference.top, b.reference.top);
      EXPECT_EQ(a.model.top, b.model.top);
      kl += a.kl, exact += b.kl, accepted += a.acceptance, exactly += b.acceptance;
    }
    EXPECT_NEAR(kl / exact, 1, spread < 2 ? 0.2 : 0.05) << "without the drawn tokens 60 % and 16 % would be missing";
    EXPECT_NEAR(accepted / exactly, 1, 0.02);
  }
}

TEST_F(Stored, AModelAgainstItsOwnFileDivergesByTheStepsOnly) {
  const Rows all = rows(100, 2.5, 0);
  const StoredReference stored(write(all));
  for (std::size_t r = 0; r < all.targets.size(); ++r) {
    const PairScore score = stored.score(r, all.model[r], all.targets[r]);
    EXPECT_NEAR(score.kl, 0, 1e-4);
    EXPECT_NEAR(score.acceptance, 1, 1e-3);
  }
}

TEST_F(Stored, WideVocabulariesAndCertainRows) {
  Rows wide = rows(3, 2, 0.1, 100000);
  for (auto* side : {&wide.reference, &wide.model}) (*side)[2].assign(100000, -200.0f), (*side)[2][99999] = 50;
  wide.targets[2] = 99999;
  const StoredReference stored(write(wide, 100000));
  const PairScore sure = stored.score(2, wide.model[2], 99999);
  EXPECT_EQ(sure.reference.top, 99999);
  EXPECT_NEAR(sure.kl, 0, 1e-9);
  EXPECT_NEAR(stored.score(0, wide.model[0], wide.targets[0]).kl, score_rows(wide.model[0], wide.reference[0], 5).kl, 0.1);
}

TEST_F(Stored, KeepsWhatWasRead) {
  const Rows all = rows(5, 2, 0.1);
  const StoredReference stored(write(all));
  EXPECT_EQ(stored.model().hash, "h");
  EXPECT_EQ(stored.protocol().tokenizer_hash, "t");
  ASSERT_EQ(stored.plan().sequences.size(), 5u);
  EXPECT_EQ(stored.plan().sequences[3].ids, (Ids{1, all.targets[3]}));
  EXPECT_EQ(stored.plan().sequences[3].unit, 3u);
  EXPECT_EQ(stored.plan().bytes[0], 4);
  EXPECT_TRUE(is_reference_file(folder_ / "r.ref"));
  write_text_file(folder_ / "x", "ATTAR");
  EXPECT_FALSE(is_reference_file(folder_ / "x"));
  EXPECT_FALSE(is_reference_file(folder_ / "nowhere"));
}

TEST_F(Stored, DamageIsNoticed) {
  const fs::path path = write(rows(5, 2, 0.1));
  const std::string whole = read_text_file(path);
  const auto with = [&](const std::string& content) {
    write_text_file(folder_ / "d.ref", content);
    return test::error_of([&] { StoredReference stored(folder_ / "d.ref"); });
  };
  EXPECT_EQ(with(whole), "no error");
  std::string bent = whole;
  constexpr std::size_t kVersionEnd = 12;
  for (std::size_t i = kVersionEnd; i < whole.size(); i += i < 2000 ? 1 : 97) {  // of hash, header and body
    bent[i] ^= 1;
    ASSERT_NE(with(bent).find("is damaged"), std::string::npos) << "byte " << i;
    bent[i] ^= 1;
  }
  EXPECT_HAS(with(whole.substr(0, whole.size() - 1)), "is damaged");
  EXPECT_HAS(with(whole.substr(0, 40)), "remain");
  bent = whole;
  bent[8] = 9;
  EXPECT_HAS(with(bent), "has version 9");
  EXPECT_HAS(with("something else altogether"), "no file that --save-reference wrote");
}

TEST_F(Stored, LogitsThatAreNotFiniteAreRefused) {
  std::vector<float> row(10, 0.0f);
  row[3] = std::nanf("");
  EXPECT_THROW(encode_position(row, 1, 0), Error);
}

}  // namespace
}  // namespace attar
