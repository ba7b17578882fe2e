// What `attar quantize` does to a model, in the one order there is: rotate, awq, fisher, one of rtn, hqq, gptq, then
// autoround and tune.
#pragma once

#include <string>

#include "quantize/pipeline.h"

namespace attar::cli {

struct Methods {
  bool rotate = false, awq = false, fisher = false;
  Method rounding = Method::kRtn;
  bool autoround = false, tune = false;

  bool needs_text() const { return awq || fisher || autoround || rounding == Method::kGptq || tune; }
  std::string name() const;  // "rotate+awq+fisher+gptq+autoround+tune"
};

// What --method or --effort ("fast", "balanced", "best") asks for, whichever is not empty; neither: balanced with calibration text,
// fast without. docs/methods/effort.md. Throws Error: a name or effort that is unknown, given twice or in another order; none or two
// methods that round; text needed that is not there.
Methods choose_methods(const std::string& method, const std::string& effort, bool text);

}  // namespace attar::cli
