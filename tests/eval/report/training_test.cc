// The log of a training, drawn.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "eval/report/figures.h"
#include "eval/report/results.h"
#include "tests/support.h"

namespace attar {
namespace {

TEST(Training, TheDivergenceOfAnotherLossIsDrawnToo) {
  test::TempFolder folder;
  std::string text;
  for (int step = 1; step <= 3; ++step)
    text += cat("{\"kind\": \"train\", \"step\": ", step, ", \"divergence\": 0.", 5 - step, "}\n{\"kind\": \"eval\", \"step\": ", step, ", \"kl\": 0.5}\n");
  write_text_file(folder / "train.jsonl", text);
  const Report report = read_results({(folder / "train.jsonl").string()});
  const auto plots = training_plots(report.training.at(0), "t");
  ASSERT_EQ(plots.size(), 2u);
  EXPECT_EQ(plots[0].id, "t-kl");  // held out
  ASSERT_EQ(plots[1].id, "t-divergence");
  ASSERT_EQ(plots[1].series.size(), 1u);
  EXPECT_EQ(plots[1].series[0].name, "training text");
  EXPECT_EQ(plots[1].series[0].points.size(), 3u);
  EXPECT_EQ(training_table(report.training[0]).head[3], "divergence of the loss");
}

TEST(Training, ADivergenceStandsWithItsError) {
  test::TempFolder folder;
  write_text_file(folder / "train.jsonl", "{\"kind\": \"eval\", \"step\": 0, \"kl\": 0.5, \"kl_uncertainty\": 0.01}\n"
                                          "{\"kind\": \"eval\", \"step\": 9, \"kl\": 0.25}\n");
  const Table table = training_table(read_results({(folder / "train.jsonl").string()}).training.at(0));
  ASSERT_EQ(table.rows.size(), 2u);
  ASSERT_EQ(table.head, (std::vector<std::string>{"step", "text", "KL"}));
  ASSERT_TRUE(table.rows[0][2].value && table.rows[1][2].value);
  EXPECT_EQ(table.rows[0][2].value->uncertainty, 0.01);
  EXPECT_EQ(table.rows[1][2].value->uncertainty, std::nullopt);
}

}  // namespace
}  // namespace attar
