// Result files that Attar has written, read back and put together: what is known of which model, and where it is from.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/report/numbers.h"

namespace attar {

// Results of a later schema are refused. docs/report.md.
constexpr std::int64_t kResultSchema = 1;

struct ReportedModel {
  std::string path, name;                      // name: the shortest end of the path that tells it from the others
  std::string role, hash;                      // empty: not known
  std::optional<double> parameters;
  std::optional<double> weight_bytes;          // of its tensors
  std::optional<double> file_bytes;
  std::optional<double> decode_rate, prompt_rate;  // tokens/s
  double bits_per_weight() const { return 8 * *weight_bytes / *parameters; }
};

// What was read and scored. Figures may stand side by side only under equal protocols.
struct ReportedProtocol {
  std::string data, data_hash, tokenizer_hash, name;
  std::int64_t context = 0, chunks = 0, scored = 0;
  bool operator==(const ReportedProtocol& other) const;  // of what decides: all but how the data was called
  // "context 256, there 128": what differs, in words. Empty: nothing.
  std::string difference(const ReportedProtocol& other) const;
};

struct ReportedCheck {
  std::string metric, outcome;  // "pass", "worse", "undecided"
  std::optional<double> value, min, max;
  std::string text() const;     // "kl_divergence.mean is 0.12, above 0.05"
};

struct ReportedGate {
  std::string outcome;
  std::vector<ReportedCheck> checks;
};

// A token that the model predicts worst, as eval shows it.
struct ReportedToken {
  std::string before, token, after;
  std::map<std::string, double> figures;  // "nll", "kl", ...
};

struct Evaluation {
  std::string file, model, reference;     // paths
  std::optional<ReportedProtocol> protocol;
  std::map<std::string, Figure> metrics;  // by dotted name without ".value": "perplexity", "kl_divergence.mean"
  std::optional<ReportedGate> gate;
  std::vector<ReportedToken> worst_tokens;
};

struct ReportedTensor {
  std::string name, type, asked, fallback, method;
  std::optional<double> weight_error, output_error, kl, share;
};

// A quantized model, tensor by tensor.
struct TensorTable {
  std::string file, model;
  std::vector<ReportedTensor> tensors;
  std::optional<double> kl_sum, kl_together;  // of eval --layers
  bool separable = true;
};

// The sizes that types could be chosen for, and what they are expected to cost.
struct SizeCurve {
  struct Point {
    double bytes = 0, expected_kl = 0;
    std::optional<double> measured_kl;
    bool chosen = false;
  };
  std::string file;
  std::vector<Point> points, trials;
};

struct TrainingLine {
  std::string kind;  // "train", "eval"
  double step = 0;
  std::map<std::string, double> values;
};
struct TrainingLog {
  std::string file;
  std::vector<TrainingLine> lines;
};

struct ReportedSample {
  std::string prompt, how;                                   // how: "the likeliest token each time"
  std::vector<std::pair<std::string, std::string>> answers;  // role or model, text
};

// A file and what it says of how its result was made.
struct Origin {
  std::string file, command, version;
  std::vector<std::pair<std::string, std::string>> facts;
};

struct Report {
  std::vector<ReportedModel> models;  // the order in which files name them
  std::vector<Evaluation> evaluations;
  std::vector<TensorTable> tensors;
  std::vector<SizeCurve> curves;
  std::vector<TrainingLog> training;
  std::vector<ReportedSample> samples;
  std::vector<Origin> origins;

  const ReportedModel& model(const std::string& path) const;
};

// Puts together what the files said of the same model, and names models. Called by read_results.
void finish(Report& report);

// Files of --json, and train.jsonl of attar distill. Throws Error naming the file: unreadable, not JSON, not a result of Attar or of a
// command that measures nothing, a later schema, a key of another type; also for no files and for one given twice.
Report read_results(const std::vector<std::string>& files);

}  // namespace attar
