#include "eval/publish.h"

#include <algorithm>
#include <cmath>

#include "tests/support.h"

namespace attar {
namespace {

GateVerdict three() {
  GateVerdict verdict;
  verdict.outcome = Outcome::kWorse;
  GateCheck check{.metric = "kl_divergence.mean", .key = "max", .limit = 0.05, .rule = "max 0.05", .outcome = Outcome::kPass, .value = 0.01,
                  .other = std::nan(""), .judged = 0.01, .bound = 0.05, .low = 0.009, .high = 0.011, .detectable = 0.001, .units = 40};
  verdict.checks.push_back(check);
  check.metric = "same_top.share", check.rule = "min 0.9", check.outcome = Outcome::kWorse, check.value = 0.8;
  verdict.checks.push_back(check);
  check.outcome = Outcome::kUndecided, check.value = std::nan(""), check.note = "the value is <not> \"known\" & 100%: a, b|c";
  verdict.checks.push_back(check);
  check.outcome = Outcome::kPass, check.value = 1, check.note = "cannot see", check.is_warning = true;
  verdict.checks.push_back(check);
  return verdict;
}

TEST(Publish, JUnitCountsAndEscapes) {
  const std::string xml = junit_text(three(), "a<b>.gguf");
  EXPECT_HAS(xml, "tests=\"4\" failures=\"1\" errors=\"1\"");
  EXPECT_HAS(xml, "value=\"a&lt;b&gt;.gguf\"");
  EXPECT_HAS(xml, "name=\"same_top.share min 0.9\"><failure message=\"same_top.share = 0.8, min 0.9\"/>");
  EXPECT_HAS(xml, "the value is &lt;not&gt; &quot;known&quot; &amp; 100%");
  EXPECT_HAS(junit_error_text("no such \"file\"\x01", "m"), "tests=\"1\" failures=\"0\" errors=\"1\"");
  EXPECT_HAS(junit_error_text("no such \"file\"\x01", "m"), "<error message=\"no such &quot;file&quot;\"/>");
}

TEST(Publish, JUnitIsXml) {
  const test::TempFolder folder;
  for (const std::string& xml : {junit_text(three(), "m"), junit_error_text("a\nb", "m")}) {
    FILE* file = std::fopen((folder / "j.xml").c_str(), "w");
    std::fputs(xml.c_str(), file);
    std::fclose(file);
    if (test::run_shell("python3 -c pass 2>&1").code != 0) GTEST_SKIP() << "no python3 to parse XML with";
    const auto parsed = test::run_shell("python3 -c \"import sys, xml.etree.ElementTree as e; print(len(list(e.parse(sys.argv[1]).iter('testcase'))))\" " +
                                        (folder / "j.xml").string() + " 2>&1");
    EXPECT_EQ(parsed.code, 0) << parsed.output;
  }
}

TEST(Publish, AnnotationsNameWhatIsNotAPass) {
  const std::string lines = annotations(three());
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 3) << lines;
  EXPECT_HAS(lines, "::error title=attar eval%3A worse%3A same_top.share::same_top.share = 0.8, min 0.9\n");
  EXPECT_HAS(lines, "::error title=attar eval%3A cannot decide");
  EXPECT_HAS(lines, "& 100%25: a, b");
  EXPECT_HAS(lines, "::warning title=");
  EXPECT_EQ(annotation("a\nb"), "::error title=attar eval::a%0Ab\n");
}

TEST(Publish, MarkdownTable) {
  EvalResult result;
  result.model.path = "m.gguf";
  result.samples["tasks.t.acc"] = {Samples::Link::kMean, {1, 0}, {1, 1}};
  const std::string text = markdown_text(result, three());
  EXPECT_HAS(text, "### attar eval: worse");
  EXPECT_HAS(text, "| worse | same_top.share | 0.8 | min 0.9 | - | 0.009 .. 0.011 | 40 |");
  EXPECT_HAS(text, "| pass, warning |");
  EXPECT_HAS(text, "a, b\\|c");
  EXPECT_HAS(text, "| tasks.t.acc | 0.5 |  |");
  EXPECT_HAS(markdown_text(result, {}), "### attar eval: measured");
}

}  // namespace
}  // namespace attar
