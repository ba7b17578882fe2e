// attar quantize: what is asked, and what its two ways share. Rounding to nearest without calibration text needs no LibTorch.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "cli/calibration.h"
#include "cli/command.h"
#include "cli/methods.h"
#include "cli/target.h"
#include "convert/checkpoint.h"
#include "distill/tune.h"
#include "quantize/report.h"

namespace attar::cli {

struct QuantizeCommand {
  Common common;
  std::string model, output, type, method, effort, imatrix;
  Calibration calibration;
  Target target;
  std::string max_memory;
  std::vector<std::string> overrides;
  double damping = GptqOptions{}.damping;
  TuneOptions tune;
  bool pure = false, no_act_order = false, no_correction = false, resume = false;
};

// What the command's options come to.
struct QuantizeRun {
  fs::path output;
  Methods methods;
  QuantizeOptions options;  // without calibration and importance
  Checkpoint original;
};

// Throws Error for a type that the output cannot hold or the runtime is not fast with.
void check_plan(const QuantizeCommand& command, const QuantizeRun& run, const Checkpoint& model);
void write_quantized(const Checkpoint& model, const QuantizeRun& run);
// Says on standard output and to the user what was made of run.output, once it is written. Returns the same for --json.
nlohmann::json tell(const QuantizeCommand& command, const QuantizeRun& run, const QuantizeReport& report, const std::vector<Gain>& gains);

// Everything but rounding to nearest into a .gguf without calibration text. Returns the exit code.
int quantize_with_torch(const QuantizeCommand& command, QuantizeRun run);

}  // namespace attar::cli
