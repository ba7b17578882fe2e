// Result files that Attar has written, read back and put together: what is known of which model, and where it is from.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/report/numbers.h"
#include "eval/significance.h"

namespace attar {

// Of the files of --json: "attar.COMMAND.1". Others are refused. docs/report.md.
constexpr int kSchemaVersion = 1;

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
  bool packed = false;  // quantized models ran on the kernels
  std::map<std::string, std::string> tasks;  // name: hash of items and protocol
  bool operator==(const ReportedProtocol& other) const;  // of what decides: all but how the data was called
  // "context 256, there 128": what differs, in words. Empty: nothing.
  std::string difference(const ReportedProtocol& other) const;
};

struct ReportedCheck {
  std::string metric, outcome;  // "pass", "worse", "undecided"
  std::string rule, note;       // in eval's words; may be empty
  std::optional<double> value, min, max;
  bool warning = false;         // passes, but the gate could not see what it guards
  std::string text() const;     // "kl_divergence.mean is 0.12, above 0.05"
};

struct ReportedGate {
  std::string outcome;
  std::vector<ReportedCheck> checks;
};

// A token that the model predicts worst, as eval shows it.
struct ReportedToken {
  std::string before, token, after;
  std::string top, reference_top;         // what each model finds most probable
  std::map<std::string, double> figures;  // "p", "reference_p", "kl"
};

// Means over the positions at some places in the context, from <= place < to.
struct ReportedBand {
  double from = 0, to = 0, nll = 0;
  std::optional<double> kl;
};

// How sure a figure is, as eval's "confidence" has it: 95 % intervals, and the test of its difference from the reference's.
struct ReportedConfidence {
  std::optional<double> n, low, high;  // n: chunks, documents or items
  std::optional<double> difference, difference_low, difference_high, p, detectable;
  std::optional<double> lost, won;     // right answers that only the reference, only the model gave
};

// Means over a chunk or document.
struct ReportedUnit {
  double unit = 0, scored = 0, nll = 0;
  std::optional<double> reference_nll, kl;
  std::string begins;  // its first words
};

struct ReportedEvaluation {
  std::string file, model, reference;     // paths
  bool repeats = false;                   // tells a few figures of an evaluation that another file may tell in full
  std::optional<ReportedProtocol> protocol;
  std::map<std::string, Figure> metrics;  // by dotted name without ".value": "perplexity", "kl_divergence.mean"
  std::map<std::string, ReportedConfidence> confidence;
  std::map<std::string, Samples> samples;  // what metrics are means of, by their full names: "perplexity.value"
  std::optional<ReportedGate> gate;
  std::vector<ReportedToken> worst_tokens;
  std::vector<ReportedBand> by_place;
  std::vector<ReportedUnit> by_unit;
};

struct ReportedTensor {
  std::string name, type, asked, fallback, method;
  std::optional<double> weight_error, output_error, kl, share;
  std::optional<double> rounded_error, clipped, damping, dead_columns, seconds;  // of quantize
};

// A quantized model, tensor by tensor.
struct TensorTable {
  std::string file, model;
  std::vector<ReportedTensor> tensors;
  std::optional<ReportedTensor> sums;         // of quantize, over all tensors
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
  std::vector<std::pair<std::string, std::string>> answers;  // who: a model's path until finish(), then as a reader knows it; text
};

// A file and what it says of how its result was made.
struct Origin {
  std::string file, command, version;
  std::vector<std::pair<std::string, std::string>> facts;
};

struct Report {
  std::vector<ReportedModel> models;  // the order in which files name them
  std::vector<ReportedEvaluation> evaluations;
  std::vector<TensorTable> tensors;
  std::vector<SizeCurve> curves;
  std::vector<TrainingLog> training;
  std::vector<ReportedSample> samples;
  std::vector<Origin> origins;

  const ReportedModel& model(const std::string& path) const;
};

// Adds what one result of --json says. source: names it in errors. Throws Error: not a result of Attar or of a command that measures
// nothing, another schema, a key of another type.
void add_result(Report& report, const nlohmann::json& result, const std::string& source);
// The same of a file of --json, or the train.jsonl of attar distill; also throws Error if it cannot be read or is not JSON.
void add_file(Report& report, const std::string& file);
// To be called once all are added: puts together what they said of the same model, and names models.
void finish(Report& report);

// add_file for each, and finish. Throws Error also for no files and one given twice.
Report read_results(const std::vector<std::string>& files);

}  // namespace attar
