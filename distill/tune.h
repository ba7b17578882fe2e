// Quantization-aware distillation: what a quantized model can still change without changing a code is trained end to end on
// the teacher's distributions. docs/methods/tune.md.
//
// Trained are the scales and offsets of the block formats (d and dmin of every block), the norms and biases, and the matrices
// of 8 and more bits, which are rounded again at the end. Types, shapes and bytes stay what they are.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"

namespace attar {

struct TuneOptions {
  std::int64_t steps = 200, batch = 8;   // chunks a step
  std::int64_t warmup = 10;              // steps
  // Peak learning rate: of scales, offsets, norms and biases relative to their size; of matrices of 8 and more bits a fiftieth
  // of it, absolute.
  double rate = 1e-3;
  std::uint64_t seed = 0;
  // Where the state of the last minutes is kept, so that a stopped run can go on (resume) to the same bytes; the caller removes it once the
  // result is written. Empty: nowhere.
  fs::path folder;
  bool resume = false;
};

struct TuneReport {
  std::int64_t steps = 0, tokens = 0;
  double kl_before = 0, kl_after = 0;    // mean over the first and over the last tenth of the steps, nats
  double seconds = 0;
};
nlohmann::json to_json(const TuneReport& report);
fs::path tune_folder(const fs::path& folder);  // beside the folder of quantize()

// Bytes at the peak, an upper estimate. length: tokens of a chunk. Each of `threads` threads, but not more than chunks in a step, has the
// gradient of the whole model and the training pass of a chunk.
std::uint64_t tune_memory(const ModelConfig& config, std::int64_t length, std::int64_t batch, int threads);

// teacher and quantized: the same architecture and vocabulary. chunks: calibration text, all of one length of at least two.
// The same bytes at any number of threads. Throws Error; ResumeError for the folder of another run; Interrupted.
Checkpoint tune(const Checkpoint& teacher, const Checkpoint& quantized, const std::vector<Ids>& chunks,
                const TuneOptions& options, TuneReport& report);

}  // namespace attar
