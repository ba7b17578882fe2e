// Perplexity, divergence from a reference, and the gate that decides the exit code.
#include <iostream>
#include <memory>

#include "cli/command.h"
#include "cli/layers.h"
#include "eval/evaluate.h"
#include "eval/gate.h"

namespace attar::cli {
namespace {

struct EvalCommand {
  Common common;
  EvalOptions options;
  std::vector<std::string> gates;
  std::string layers;  // the original, to compare with tensor by tensor
};

int exit_code(Outcome outcome) {
  switch (outcome) {
    case Outcome::kPass: return kDone;
    case Outcome::kWorse: return kGateFailed;
    case Outcome::kUndecided: return kBadInput;
  }
  return kBadInput;
}

int run_eval(const EvalCommand& command) {
  std::vector<Threshold> gate;
  for (const std::string& path : command.gates)
    for (Threshold& threshold : read_gate(path)) gate.push_back(std::move(threshold));
  require_measurable(gate, !command.options.reference.empty(), measures_cloze(command.options));
  if (!command.layers.empty()) check_layers(command.layers, command.options.model);

  const EvalResult result = evaluate(command.options);
  std::cout << table_text(result);
  nlohmann::json json = to_json(result);
  if (!command.layers.empty()) json["layers"] = compare_layers(command.layers, command.options, command.common.strict);
  int code = kDone;
  if (!gate.empty()) {
    const GateVerdict verdict = check_gate(gate, result);
    std::cout << "\n" << text(verdict);
    json["gate"] = to_json(verdict);
    code = exit_code(verdict.outcome);
  }
  std::cout.flush();
  write_result(command.common, "eval", std::move(json));
  return code;
}

}  // namespace

void add_eval(CLI::App& app) {
  auto command = std::make_shared<EvalCommand>();
  CLI::App* sub = add_command(app, "eval", "Measure perplexity and divergence from a reference; --gate decides the exit code",
                              command->common, [command] { return run_eval(*command); });
  EvalOptions& options = command->options;
  sub->add_option("MODEL", options.model, "Model: Hugging Face folder, .gguf, or builtin:teacher")->required();
  sub->add_option("--reference", options.reference, "Model to diverge from; measured in the same pass");
  sub->add_option("--data", options.data, "Text: a file, or builtin:heldout (which adds cloze items)")->required();
  sub->add_option("--context", options.chunking.context, "Tokens per chunk; the second half is scored")
      ->capture_default_str();
  sub->add_option("--chunks", options.chunking.chunks, "Use the first N chunks only; 0: all")->capture_default_str();
  sub->add_option("--tokens", options.chunking.tokens, "Use the first N tokens of the text only; 0: all")
      ->capture_default_str();
  sub->add_option("--cloze-items", options.cloze_items, "Cloze items to ask with builtin:heldout; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_option("--gate", command->gates, "TOML file of thresholds: exit 0 pass, 1 worse, 2 cannot decide; may be repeated")
      ->allow_extra_args(false);
  sub->add_option("--layers", command->layers,
                  "The model that MODEL was quantized from: show what each tensor's rounding costs, on the first chunks of the text")
      ->type_name("ORIGINAL");
  sub->add_option("--device", options.device, "cpu, cuda or cuda:N")->capture_default_str();
}

}  // namespace attar::cli
