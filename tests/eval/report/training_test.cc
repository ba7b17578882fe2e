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

}  // namespace
}  // namespace attar
