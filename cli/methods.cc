#include "cli/methods.h"

#include <algorithm>
#include <sstream>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace attar::cli {
namespace {

constexpr const char* kOrder = "the order is rotate, awq, fisher, one of rtn, hqq and gptq, autoround, tune";

struct Step {
  const char* name;
  int place;
  void (*take)(Methods&);
};
constexpr int kRounds = 3;
constexpr Step kSteps[] = {
    {"rotate", 0, [](Methods& m) { m.rotate = true; }},
    {"awq", 1, [](Methods& m) { m.awq = true; }},
    {"fisher", 2, [](Methods& m) { m.fisher = true; }},
    {"rtn", kRounds, [](Methods& m) { m.rounding = Method::kRtn; }},
    {"hqq", kRounds, [](Methods& m) { m.rounding = Method::kHqq; }},
    {"gptq", kRounds, [](Methods& m) { m.rounding = Method::kGptq; }},
    {"autoround", 4, [](Methods& m) { m.autoround = true; }},
    {"tune", 5, [](Methods& m) { m.tune = true; }},
};

const Step& step_of(const std::string& word, const std::string& text) {
  std::vector<std::string> names;
  for (const Step& step : kSteps) {
    if (word == step.name) return step;
    names.emplace_back(step.name);
  }
  std::string meant = text;
  if (const std::string near = nearest(word, names); !near.empty())
    fail("--method ", text, ": unknown method; did you mean '", meant.replace(text.find(word), word.size(), near), "'?");
  fail("--method ", text, ": unknown method", word == text ? "" : cat(" '", word, "'"), suggest(word, names));
}

Methods of_effort(const std::string& effort) {
  if (effort == "fast") return {};
  if (effort == "balanced") return {.fisher = true, .rounding = Method::kGptq};
  if (effort == "best") return {.rotate = true, .fisher = true, .rounding = Method::kGptq, .tune = true};
  fail("--effort ", effort, ": unknown effort", suggest(effort, std::vector<std::string>{"fast", "balanced", "best"}));
}

// Names joined by '+'.
Methods parse_methods(const std::string& text) {
  Methods methods;
  const Step* last = nullptr;
  bool rounds = false;
  std::istringstream words(text + "+");  // what is missing behind a last '+' is a word too
  for (std::string word; std::getline(words, word, '+');) {
    const Step& step = step_of(word, text);
    if (last == &step) fail("--method ", text, ": ", word, " is given twice");
    if (last != nullptr && step.place == last->place)
      fail("--method ", text, ": ", last->name, " and ", word, " both round; give one of them");
    if (last != nullptr && step.place < last->place)
      fail("--method ", text, ": ", word, " cannot come after ", last->name, "; ", kOrder);
    step.take(methods);
    rounds = rounds || step.place == kRounds;
    last = &step;
  }
  if (!rounds) fail("--method ", text, ": says nothing of how to round; ", kOrder, ", such as awq+gptq");
  if (methods.autoround && methods.rounding == Method::kHqq)
    fail("--method ", text, ": hqq looks at weights only, autoround at text; give rtn or gptq in place of hqq");
  if (methods.fisher && methods.rounding != Method::kGptq && !methods.autoround)
    fail("--method ", text, ": fisher tells gptq and autoround what outputs mean, and neither is there");
  return methods;
}

}  // namespace

std::string Methods::name() const {
  return cat(rotate ? "rotate+" : "", awq ? "awq+" : "", fisher ? "fisher+" : "", name_of(rounding), autoround ? "+autoround" : "", tune ? "+tune" : "");
}

Methods choose_methods(const std::string& method, const std::string& effort, bool text) {
  const Methods methods = !method.empty() ? parse_methods(method) : of_effort(!effort.empty() ? effort : text ? "balanced" : "fast");
  if (methods.needs_text() && !text)
    fail(method.empty() ? cat("--effort ", effort) : cat("--method ", method),
         " needs text; give --calibration FILE, or --calibration builtin:calibration");
  return methods;
}

}  // namespace attar::cli
