#include "eval/report/page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "eval/report/digest.h"
#include "tests/eval/report/samples.h"
#include "tests/eval/report/xml.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::json;
using test::XmlElement;
using test::XmlReader;

class PageTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& text) {
    write_text_file(folder_ / name, text);
    return (folder_ / name).string();
  }
  Report everything() {
    json eval = test::eval_json();
    eval["gate"] = test::gate_json("pass");
    eval["breakdown"]["worst_tokens"] = {{{"before", "the cat "}, {"token", "flew"}, {"after", " away"}, {"top", "ran"}, {"reference_top", "flew"}, {"p", 0.0001}, {"reference_p", 0.5}, {"kl", 1.1}}};
    eval["layers"] = {{"kl_sum", 0.02}, {"kl_together", 0.019}, {"separable", true},
                      {"tensors", {{{"name", "model.layers.0.self_attn.q_proj.weight"}, {"type", "q4_0"}, {"weight_error", 0.0011}, {"output_error", 0.00012}, {"kl_divergence", 0.015}, {"share", 0.75}}}}};
    json quantize = test::quantize_json();
    quantize["allocation"] = {{"curve", {{{"bytes", 1e6}, {"expected_kl", 0.1}, {"chosen", false}}, {{"bytes", 2e6}, {"expected_kl", 0.01}, {"chosen", true}}}}};
    return read_results({file("run.json", test::run_json().dump()), file("eval.json", eval.dump()), file("quantize.json", quantize.dump()),
                         file("bench.json", test::bench_json().dump()), file("train.jsonl", test::train_log())});
  }
  test::TempFolder folder_;
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Numbers of the page as it says them: <data value="...">.
std::multiset<double> figures_of(const std::string& page) {
  std::multiset<double> found;
  for (const XmlElement& one : XmlReader(page).elements)
    if (one.name == "data") found.insert(std::stod(one.attributes.at("value")));
  return found;
}

TEST_F(PageTest, IsWellFormedAndLoadsNothing) {
  const std::string page = html_page(everything());
  const XmlReader xml(page);
  std::set<std::string> ids;
  for (const XmlElement& one : xml.elements) {
    EXPECT_NE(one.name, "script");
    EXPECT_NE(one.name, "link");
    for (const auto& [key, value] : one.attributes) {
      EXPECT_FALSE(key.starts_with("on")) << key;
      EXPECT_TRUE(key != "src" && key != "href") << key;
    }
    if (const auto id = one.attributes.find("id"); id != one.attributes.end()) {
      EXPECT_TRUE(ids.insert(id->second).second) << id->second << " twice";
    }
  }
  for (const XmlElement& one : xml.elements)
    if (const auto by = one.attributes.find("aria-labelledby"); by != one.attributes.end()) {
      const std::size_t space = by->second.find(' ');
      EXPECT_TRUE(ids.count(by->second.substr(0, space)) && ids.count(by->second.substr(space + 1))) << by->second;
    }
  for (const char* outside : {"http:", "https:", "//", "url(", "@import"}) EXPECT_FALSE(contains(page, outside)) << outside;
  EXPECT_EQ(page, html_page(everything())) << "the same bytes";
}

TEST_F(PageTest, ShowsEverySection) {
  const std::string page = html_page(everything());
  std::set<std::string> titles;
  for (const XmlElement& one : XmlReader(page).elements)
    if (one.name == "h2") titles.insert(one.text);
  for (const char* title : {"Models", "Quality in detail", "Layer by layer", "Size chosen by sensitivity", "Training", "Worst tokens in context", "Samples", "How it was made"})
    EXPECT_TRUE(titles.count(title)) << title;
  for (const char* words : {"said the teacher", "said the quantized", "attar quantize models/big", "h-out/small.gguf", "teacher = &quot;models/big&quot;", "flew", "288 columns"})
    EXPECT_HAS(page, words);
}

TEST_F(PageTest, EveryFigureOfAnEvaluationIsThereUnrounded) {
  const std::multiset<double> found = figures_of(html_page(everything()));
  const json eval = test::eval_json();
  std::size_t checked = 0;
  for (const auto& [group, values] : eval.items()) {
    if (!values.is_object() || group == "model" || group == "reference" || group == "protocol") continue;
    for (const auto& [name, value] : values.items())
      if (value.is_number() && !name.ends_with("uncertainty")) {
        EXPECT_TRUE(found.count(value.get<double>())) << group << "." << name;
        ++checked;
      }
  }
  EXPECT_EQ(checked, 13u);
  for (const double figure : {1476.25, 418.452, 2e6, 1.25e6, 5.0, 0.001 * 3, 0.0001 * 3, 0.00043, 0.0011, 0.00012, 0.015, 0.75, 1.0 / 7, 1.1 / 20, 1.1, 0.0001})
    EXPECT_TRUE(found.count(figure)) << figure;
}

TEST_F(PageTest, HostileNamesStayText) {
  const std::string evil = "</title><script>alert(1)</script>\"'&\x1b[31m\xe2\x80\xae]](x)|`<img src=x onerror=y>";
  json eval = test::eval_json(evil), run = test::run_json(), quantize = test::quantize_json(evil);
  eval["protocol"]["data"] = evil;
  eval["gate"] = test::gate_json("worse");
  eval["gate"]["checks"][0]["metric"] = evil;
  eval["breakdown"]["worst_tokens"] = {{{"before", evil}, {"token", evil}, {"after", evil}, {"top", evil}}};
  eval[evil] = {{"value", 1.0}};
  run["models"][1]["samples"][0]["text"] = evil;
  run["models"][1]["role"] = evil;
  run["recipe"]["text"] = evil;
  quantize["tensors"][0]["name"] = evil;
  quantize["tensors"][1]["name"] = "model.layers.0." + evil + ".weight";
  quantize["tensors"][2]["fallback"] = evil;
  const Report report = read_results({file("e.json", eval.dump()), file("r.json", run.dump()), file("q.json", quantize.dump())});
  const std::string page = html_page(report);
  bool shown = false;
  for (const XmlElement& one : XmlReader(page).elements) {
    EXPECT_TRUE(one.name != "script" && one.name != "img");
    shown |= contains(one.text, "<script>alert(1)</script>\"'&␛[31m");
  }
  EXPECT_TRUE(shown) << "as text it is there";
  const std::string markdown = markdown_page(report);
  EXPECT_FALSE(contains(markdown, "<script"));
  EXPECT_FALSE(contains(markdown, "<img"));
  EXPECT_FALSE(contains(markdown, "]](x)"));
  EXPECT_FALSE(contains(markdown, "\x1b"));
}

TEST_F(PageTest, BytesThatAreNoTextBecomeVisible) {
  EXPECT_EQ(escaped(std::string_view("a\0b\x7f\n<\xff\xc3", 8)), "a␀b␡\n&lt;��");
  EXPECT_EQ(escaped("\xef\xbf\xbf"), "�");
  EXPECT_EQ(escaped("é 漢 😀"), "é 漢 😀");
}

TEST_F(PageTest, MarkdownHasTheSameFigures) {
  const std::string text = markdown_page(everything());
  for (const char* words : {"**The quantized model is good enough: all 2 bounds of its gate hold.**", "## Models", "2.779 ± 0.013", "86.4 ± 1.1 %", "1.25 MB", "⟦flew⟧", "said the teacher"})
    EXPECT_HAS(text, words);
  std::istringstream lines(text);
  std::size_t columns = 0;  // each row of a table has as many cells as its head
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("|")) {
      columns = 0;
      continue;
    }
    std::size_t cells = 0;
    for (std::size_t i = 0; i < line.size(); ++i) cells += line[i] == '|' && (i == 0 || line[i - 1] != '\\');
    if (columns == 0) columns = cells;
    EXPECT_EQ(cells, columns) << line;
  }
}

TEST_F(PageTest, SatisfiesXmllint) {
  if (test::run_shell("command -v xmllint").code != 0) GTEST_SKIP() << "xmllint is not here";
  const std::string page = html_page(everything()), path = file("page.html", page.substr(page.find('\n') + 1));
  const auto result = test::run_shell("xmllint --noout " + path + " 2>&1");
  EXPECT_EQ(result.code, 0) << result.output;
}

// What a browser makes of the page.
class InChromium : public PageTest {
 protected:
  void SetUp() override {
    if (test::run_shell("command -v chromium").code != 0) GTEST_SKIP() << "chromium is not here";
  }
  struct Opened {
    std::string document, console;
  };
  // dark: the browser's setting, of which pages are told.
  Opened open(const std::string& page, bool dark = false) {
    const std::string path = file("page.html", page), log = (folder_ / "log").string();
    const auto result = test::run_shell("timeout 240 chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update"
                                        " --host-resolver-rules='MAP * ~NOTFOUND' --allow-file-access-from-files --virtual-time-budget=10000 --blink-settings=preferredColorScheme=" +
                                        std::string(dark ? "0" : "1") + " --user-data-dir=" + (folder_ / "profile").string() + " --enable-logging=stderr --dump-dom file://" + path +
                                        " 2>" + log);
    EXPECT_EQ(result.code, 0) << read_text_file(log);
    return {result.output, read_text_file(log)};
  }
  // What `script`, run in the page shown so many pixels wide, gives, as JSON.
  json measured(const std::string& script, int width, bool dark) {
    std::string page = html_page(everything());
    const std::size_t policy = page.find("<meta http-equiv=\"Content-Security-Policy\"");  // which allows no script
    page.erase(policy, page.find("/>", policy) + 2 - policy);
    page.insert(page.find("</body>"), "<script>parent.document.title = 'BEGIN' + JSON.stringify((() => {" + script + "})()) + 'END'</script>");
    const std::string frame = file("framed.html", page);
    const std::string shown = open("<!DOCTYPE html><title>none</title><iframe src=\"file://" + frame + "\" style=\"width:" + std::to_string(width) + "px;height:800px;border:0\"></iframe>", dark).document;
    const std::size_t begin = shown.find("BEGIN"), end = shown.find("END");
    if (begin == std::string::npos || end == std::string::npos) return shown;
    return json::parse(shown.substr(begin + 5, end - begin - 5));
  }
};

// The same elements, and not a word of complaint, as a script's error or a load that the page's policy forbids would be.
TEST_F(InChromium, OpensWithoutComplaint) {
  const std::string page = html_page(everything());
  const Opened opened = open(page);
  EXPECT_FALSE(contains(opened.console, "CONSOLE")) << opened.console;
  const auto count = [](const std::string& text, const std::string& word) {
    std::size_t found = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++found;
    return found;
  };
  for (const char* element : {"<svg", "<table", "<data", "<rect", "<path", "<section", "<details"}) EXPECT_EQ(count(opened.document, element), count(page, element)) << element;

  std::string loading = page;  // what a bad page would look like
  loading.insert(loading.find("<main>"), "<img src=\"http://example.org/x.png\"/>");
  EXPECT_TRUE(contains(open(loading).console, "CONSOLE"));
}

TEST_F(InChromium, FitsAPhoneAndADesk) {
  const char* script =
      "document.querySelectorAll('details').forEach(one => one.open = true);"
      "return {room: innerWidth, taken: document.documentElement.scrollWidth, letters: parseFloat(getComputedStyle(document.querySelector('main p')).fontSize)}";
  for (const int width : {360, 1280}) {
    const json found = measured(script, width, false);
    ASSERT_TRUE(found.is_object()) << found;
    EXPECT_EQ(found["room"], width);
    EXPECT_LE(found["taken"], width) << "nothing but wide tables, each in its own box, is scrolled sideways";
    EXPECT_GE(found["letters"], 14);
  }
}

// Words stand out from what is behind them, by WCAG 2.1, success criterion 1.4.3: 4.5 : 1.
TEST_F(InChromium, IsReadableInLightAndDark) {
  const char* script = R"(
    const channel = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const numbers = color => color.match(/[0-9.]+/g).map(Number);
    const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const behind = element => {
      for (; element; element = element.parentElement) {
        const color = numbers(getComputedStyle(element).backgroundColor);
        if (color.length === 3 || color[3] === 1) return color;
      }
      return [255, 255, 255];
    };
    let worst = 99, where = '';
    document.querySelectorAll('details').forEach(one => one.open = true);
    for (const element of document.querySelectorAll('main *')) {
      if (element.closest('svg') || ![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
      const pair = [luminance(numbers(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
      const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
      if (contrast < worst) worst = contrast, where = element.outerHTML.slice(0, 200);
    }
    return {worst, where, paper: luminance(behind(document.querySelector('main')))})";
  const json light = measured(script, 1280, false), dark = measured(script, 1280, true);
  for (const json& found : {light, dark}) {
    ASSERT_TRUE(found.is_object()) << found;
    EXPECT_GE(found["worst"], 4.5) << found["where"];
  }
  EXPECT_GT(light["paper"], 0.8);
  EXPECT_LT(dark["paper"], 0.1);
}

}  // namespace
}  // namespace attar
