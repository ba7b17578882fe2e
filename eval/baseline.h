// A result stored by an earlier run, to compare with.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "eval/result.h"

namespace attar {

class Baseline {
 public:
  // Throws Error: missing, not JSON, no result of `attar eval`, one of another schema.
  explicit Baseline(const std::string& path);
  Baseline(nlohmann::json json, std::string source);

  // Throws Error saying what differs unless the result was measured alike: a model of the same shape, text, tokenizer,
  // protocol and reference.
  void require_comparable(const EvalResult& result) const;
  // The same for one task: its items and how they are asked.
  void require_comparable(const TaskResult& task) const;

  const std::string& source() const { return source_; }
  double value(const std::string& metric) const;                      // NaN if it has none
  std::optional<Samples> samples(const std::string& metric) const;    // throws Error if they are damaged

 private:
  void check() const;
  nlohmann::json json_;
  std::string source_;
};

}  // namespace attar
