// The figures of result files against each other, item by item.
#include "eval/report/evidence.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "tests/eval/report/samples.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::json;
using test::report_of;

// A result of eval whose answers to one task are these.
json answered(const std::string& model, const std::vector<double>& right) {
  json eval = test::eval_json(model);
  double share = 0;
  for (const double one : right) share += one / static_cast<double>(right.size());
  eval["tasks"]["quiz"] = {{"hash", "q"}, {"acc", share}, {"acc_stderr", 0.1}};
  eval["samples"]["tasks.quiz.acc"] = {{"link", "mean"}, {"sums", right}, {"weights", 1}};
  return eval;
}

TEST(Evidence, TheFirstModelsAnswersAreMetOneByOne) {
  std::vector<double> first(20, 1.0), other(20, 1.0);
  for (std::size_t i = 0; i < 5; ++i) other[i] = 0;  // five that only the first knew,
  first[10] = 0;                                     // one that only the other did
  const Report report = report_of({answered("a.gguf", first), answered("b.gguf", other)});
  const std::vector<Group> groups = groups_of(report);
  ASSERT_EQ(groups.size(), 1u);
  const auto differences = against_first(groups[0], {});
  ASSERT_EQ(differences.size(), 2u);
  EXPECT_TRUE(differences[0].empty());
  ASSERT_EQ(differences[1].count("tasks.quiz.acc"), 1u);
  const Difference& less = differences[1].at("tasks.quiz.acc");
  EXPECT_EQ(less.n, 20);
  EXPECT_EQ(less.other, 0.95);
  EXPECT_EQ(less.value, -4.0 / 20);
  EXPECT_EQ(less.answers->lost, 5);
  EXPECT_EQ(less.answers->won, 1);
  EXPECT_NEAR(less.p, 2 * (1 + 6) / 64.0, 1e-12) << "1 or fewer heads of 6 tosses, or as many tails";
  EXPECT_LT(less.low, less.value);
  EXPECT_GT(less.high, less.value);
  const std::string table = text(difference_table(report, groups[0], differences));
  EXPECT_NE(table.find("less that of a.gguf"), std::string::npos) << table;
  EXPECT_NE(table.find("-20.0 %"), std::string::npos) << table;
}

TEST(Evidence, FilesWithoutSamplesHaveNoDifferences) {
  const Report report = report_of({test::eval_json("a.gguf"), answered("b.gguf", {1, 0})});
  for (const Group& group : groups_of(report))
    for (const Differences& one : against_first(group, {})) EXPECT_TRUE(one.empty());
}

TEST(Evidence, SamplesOfOtherItemsAreRefused) {
  const Report report = report_of({answered("a.gguf", {1, 0, 1}), answered("b.gguf", {1, 0})});
  const std::vector<Group> groups = groups_of(report);
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_HAS(test::error_of([&] { against_first(groups[0], {}); }), "not of the same chunks or items");
}

TEST(Evidence, DamagedSamplesAreNamed) {
  json eval = answered("a.gguf", {1, 0});
  eval["samples"]["tasks.quiz.acc"]["link"] = "median";
  EXPECT_HAS(test::error_of([&] { report_of({eval}); }), "unknown link 'median'");
  eval["samples"]["tasks.quiz.acc"] = {{"link", "mean"}, {"sums", {1, 2}}, {"weights", {1}}};
  EXPECT_HAS(test::error_of([&] { report_of({eval}); }), "as many weights as sums");
}

}  // namespace
}  // namespace attar
