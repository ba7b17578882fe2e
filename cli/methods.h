// What `attar quantize` does to a model, in the one order there is: rotate, awq, one of rtn, hqq, gptq, then tune.
#pragma once

#include <string>

#include "quantize/pipeline.h"

namespace attar::cli {

struct Methods {
  bool rotate = false, awq = false;
  Method rounding = Method::kRtn;
  bool tune = false;

  bool needs_text() const { return awq || rounding == Method::kGptq || tune; }
  std::string transforms() const;  // "rotate+awq"
  std::string name() const;        // "rotate+awq+gptq+tune"
};

// --method: names joined by '+'. Throws Error: unknown, given twice, in another order, none or two that round.
Methods parse_methods(const std::string& text);
// --effort: "fast", "balanced" or "best". docs/methods/effort.md. Throws Error for any other.
Methods methods_of_effort(const std::string& effort);

}  // namespace attar::cli
