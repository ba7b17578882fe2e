#include "cli/calibration.h"
#include "cli/numbers.h"

namespace attar::cli {

void add_calibration_options(CLI::App& sub, Calibration& calibration, const std::string& name, bool required) {
  sub.add_option(name, calibration.source, "What the model is to meet: .txt, .jsonl (text, messages or input_ids), builtin:calibration, or self: text that the model "
                 "writes now, which needs no data")
      ->required(required)
      ->type_name("SOURCE");
  sub.add_option("--samples", calibration.samples, "Chunks of calibration text, picked by --seed; 0: all")
      ->check(kNotNegative)
      ->capture_default_str();
  sub.add_option("--context", calibration.context, "Tokens in a chunk, at most what the model was made for")
      ->capture_default_str();
}

}  // namespace attar::cli
