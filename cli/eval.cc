// Perplexity, divergence from a reference, tasks, and the gate that decides the exit code.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>

#include "base/console.h"
#include "base/files.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/layers.h"
#include "cli/numbers.h"
#include "eval/publish.h"
#include "eval/report/table.h"
#include "eval/stored_reference.h"

namespace attar::cli {
namespace {

struct EvalCommand {
  Common common;
  EvalOptions options;
  std::vector<std::string> gates;
  std::string layers;  // the original, to compare with tensor by tensor
  std::string baseline, junit, markdown;
  bool update_baseline = false, no_bos = false;
  const CLI::App* app = nullptr;  // knows which options were given
  std::size_t worst = 0;
};

int exit_code(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass: return kDone;
    case Outcome::kWorse: return kGateFailed;
    case Outcome::kUndecided: return kBadInput;
  }
  return kBadInput;
}

// A gate that cannot see what it guards is a fallback, which --strict refuses.
void refuse_warnings(GateVerdict& verdict) {
  for (GateCheck& check : verdict.checks)
    if (check.is_warning && check.outcome == Outcome::kPass) {
      check.outcome = Outcome::kUndecided;
      if (verdict.outcome == Outcome::kPass) verdict.outcome = Outcome::kUndecided;
    }
}

// A result that becomes the baseline is not compared with the old one.
void drop_baseline_bounds(std::vector<Threshold>& gate) {
  for (Threshold& t : gate) {
    if (t.against != Other::kBaseline) continue;
    t.against = Other::kNone;
    t.max_decrease = t.max_increase = t.min_ratio = t.max_ratio = std::nullopt;
  }
  std::erase_if(gate, [](const Threshold& t) { return t.against == Other::kNone && !t.min && !t.max; });
}

bool on_github() {
  const char* value = std::getenv("GITHUB_ACTIONS");
  return value != nullptr && std::string(value) == "true";
}

void add_to_summary(const std::string& text) {
  const char* path = std::getenv("GITHUB_STEP_SUMMARY");
  if (path == nullptr || *path == '\0') return;
  std::ofstream file(path, std::ios::app);
  if (!(file << text << "\n")) warn(cat("eval: cannot write the step summary to ", path));
}

int measure_and_judge(const EvalCommand& command, const EvalOptions& options) {
  std::vector<Threshold> gate;
  for (const std::string& path : command.gates)
    for (Threshold& threshold : read_gate(path)) gate.push_back(std::move(threshold));
  if (gate.empty() && !command.junit.empty()) fail("eval: --junit writes the gate's verdict; give --gate");
  if (command.update_baseline && command.baseline.empty()) fail("eval: --update-baseline needs --baseline FILE");
  if (!command.baseline.empty() && !command.update_baseline && gate.empty())
    fail("eval: --baseline is what a gate compares with; give --gate, or --update-baseline to store this result");
  bool how_to_read = false;
  for (const char* name : {"--context", "--chunks", "--tokens", "--protocol"}) how_to_read |= command.app->count(name) > 0;
  if (how_to_read && options.data.empty() && !options.reference.empty() && is_reference_file(options.reference))
    fail("eval: ", options.reference, " says itself which text is read, and how; give --data to have them compared, or leave out --context, --chunks, --tokens and --protocol");
  if (command.update_baseline) drop_baseline_bounds(gate);
  require_measurable(gate, plan(options), !command.baseline.empty());
  if (!command.layers.empty() && options.data.empty()) fail("eval: --layers measures on the text; give --data");
  if (!command.layers.empty()) check_layers(command.layers, options.model);
  std::optional<Baseline> baseline;
  if (!command.baseline.empty() && !command.update_baseline) baseline.emplace(command.baseline);

  const EvalResult result = evaluate(options, baseline ? &*baseline : nullptr);
  if (baseline) baseline->require_comparable(result);
  const Resampling resampling{.seed = command.common.seed};
  std::cout << table_text(result);
  if (command.worst > 0) std::cout << worst_text(result.breakdown, command.worst);
  nlohmann::json json = to_json(result, resampling);
  nlohmann::json stored = json;
  stored["attar"] = ATTAR_VERSION, stored["command"] = "eval";
  if (!command.layers.empty()) json["layers"] = compare_layers(command.layers, options, command.common.strict);
  GateVerdict verdict;
  int code = kDone;
  if (!gate.empty()) {
    verdict = check_gate(gate, result, baseline ? &*baseline : nullptr, resampling);
    if (command.common.strict) refuse_warnings(verdict);
    std::cout << "\n" << text(verdict);
    if (on_github()) std::cout << annotations(verdict);
    json["gate"] = to_json(verdict);
    code = exit_code(verdict.outcome);
  }
  std::cout.flush();
  if (command.update_baseline && code == kDone) {
    write_text_file(command.baseline, json_text(stored, 1));
    note("eval: stored as the baseline " + command.baseline);
  }
  const std::string markdown = markdown_text(result, verdict);
  if (!command.markdown.empty()) write_text_file(command.markdown, markdown);
  if (!command.junit.empty()) write_text_file(command.junit, junit_text(verdict, options.model));
  write_result(command.common, "eval", std::move(json));
  add_to_summary(markdown);
  return code;
}

void refuse_own_inputs(const EvalCommand& command) {
  const EvalOptions& options = command.options;
  std::vector<std::string> inputs = {options.model, options.reference, options.data, command.layers};
  inputs.insert(inputs.end(), options.tasks.begin(), options.tasks.end());
  inputs.insert(inputs.end(), command.gates.begin(), command.gates.end());
  std::vector<std::string> outputs = {command.common.json, command.markdown, command.junit, options.save_reference, options.items};
  (command.update_baseline ? outputs : inputs).push_back(command.baseline);
  refuse_overwriting("eval", inputs, outputs);
}

// What reads the outputs must not find those of an earlier run if this one breaks off.
void remove_outputs(const EvalCommand& command) {
  for (const std::string& path : {command.common.json, command.markdown, command.junit}) {
    std::error_code ignored;
    if (!path.empty() && fs::is_regular_file(path, ignored)) fs::remove(path, ignored);
  }
}

// Nothing looks like a pass: what was written already goes, and what can be written says why.
void write_failure(const EvalCommand& command, const std::string& what) {
  const auto attempt = [](auto&& write) {
    try {
      write();
    } catch (const std::exception& error) {
      warn(cat("eval: ", error.what()));
    }
  };
  remove_outputs(command);
  const std::string markdown = cat("### attar eval: cannot decide\n\n", markdown_escaped(as_utf8(what)), "\n");
  if (on_github()) std::cout << annotation(what);
  add_to_summary(markdown);
  if (!command.markdown.empty()) attempt([&] { write_text_file(command.markdown, markdown); });
  if (!command.junit.empty()) attempt([&] { write_text_file(command.junit, junit_error_text(what, command.options.model)); });
}

int run_eval(const EvalCommand& command) {
  EvalOptions options = command.options;
  options.asking.seed = command.common.seed;
  options.bos = !command.no_bos;
  options.worst = std::max(options.worst, command.worst);
  refuse_own_inputs(command);
  remove_outputs(command);
  try {
    return measure_and_judge(command, options);
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& error) {
    write_failure(command, error.what());
    throw;
  }
}

}  // namespace

void add_eval(CLI::App* sub) {
  auto command = std::make_shared<EvalCommand>();
  set_action(*sub, command->common, [command] { return run_eval(*command); });
  command->app = sub;
  EvalOptions& options = command->options;
  sub->add_option("MODEL", options.model, "Model: Hugging Face folder, .gguf, or builtin:teacher")->required();
  sub->add_option("--reference", options.reference, "Model to compare with, measured in the same pass; or a file of --save-reference, or of llama-perplexity --kl-divergence-base");
  sub->add_option("--data", options.data, "Text: a file, or builtin:heldout (which adds cloze items)");
  sub->add_option("--save-reference", options.save_reference,
                  "Write what MODEL predicts to this file, for --reference");
  sub->add_option("--protocol", options.protocol,
                  "llama-perplexity: chunks, the second half scored; rolling: every token of every document once")
      ->check(CLI::IsMember({"llama-perplexity", "rolling"}))
      ->capture_default_str();
  sub->add_option("--tasks", options.tasks, "Tasks: .jsonl files of items, or .toml files that say how to ask them")
      ->delimiter(',')
      ->allow_extra_args(false);
  sub->add_option("--limit", options.asking.limit, "Ask the first N items of each task only; 0: all")
      ->check(kNotNegative)
      ->capture_default_str();
  sub->add_option("--shots", options.asking.shots, "Solved examples before each question, instead of what the task says")
      ->check(kNotNegative);
  sub->add_flag("--no-bos", command->no_bos, "Ask tasks without BOS, as lm-evaluation-harness does unless told");
  sub->add_option("--items", options.items, "Write the scores of each task item to this file, one JSON object a line");
  sub->add_option("--context", options.chunking.context, "Tokens per chunk; the second half is scored")
      ->capture_default_str();
  sub->add_option("--chunks", options.chunking.chunks, "Use the first N chunks only; 0: all")->capture_default_str();
  sub->add_option("--tokens", options.chunking.tokens, "Use the first N tokens of the text only; 0: all")
      ->capture_default_str();
  sub->add_option("--cloze-items", options.cloze_items, "Cloze items to ask with builtin:heldout; 0: none")
      ->check(kNotNegative)
      ->capture_default_str();
  sub->add_option("--gate", command->gates, "TOML file of thresholds: exit 0 pass, 1 worse, 2 cannot decide; may be repeated")
      ->allow_extra_args(false);
  sub->add_option("--layers", command->layers,
                  "The model that MODEL was quantized from: show what each tensor's rounding costs, on the first chunks of the text")
      ->type_name("ORIGINAL");
  sub->add_option("--baseline", command->baseline, "Result stored earlier, which the gate compares with");
  sub->add_flag("--update-baseline", command->update_baseline, "Store this result as the baseline, unless a bound of the gate fails");
  sub->add_option("--junit", command->junit, "Write the gate's verdict as JUnit XML to this file");
  sub->add_option("--markdown", command->markdown, "Write figures and verdict as Markdown to this file");
  sub->add_option("--worst", command->worst, "Print the N worst predicted tokens in their context")->capture_default_str();
  sub->add_flag("--float", options.floats, "Compute quantized models in float32 instead of through the kernels, which round as devices do");
  sub->add_option("--device", options.device, "cpu, cuda or cuda:N")->capture_default_str();
}

}  // namespace attar::cli
