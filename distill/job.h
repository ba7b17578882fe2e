// A whole distillation: models and data from paths, training with logs and checkpoints, the student written at the end.
//
// While it runs everything lies in OUTPUT.training (the logs, state.safetensors after every checkpoint, the weights of the best
// evaluation); OUTPUT itself appears when the student is finished, with the logs in it, and OUTPUT.training goes away.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "distill/trainer.h"

namespace attar {

struct DistillJob {
  std::filesystem::path teacher;   // empty: train on the text alone
  std::filesystem::path student;   // a model, or a folder with a config.json and no weights: those come from the seed
  std::vector<std::string> data;   // sources with weights, see open_mixture
  std::string heldout;             // a source (datasets/corpus.h); empty: no evaluation
  std::string packing = "joined";  // of documents into chunks, both of data and heldout
  std::filesystem::path output;
  std::filesystem::path cache;     // folder of the teacher's predictions (logit_cache.h), filled if need be; empty: the teacher runs along
  TrainerOptions trainer;
  std::int64_t log_every = 10, eval_every = 100, checkpoint_every = 200;  // steps; 0: never (but at the end or Ctrl-C)
  std::int64_t eval_chunks = 32;   // held-out chunks, chosen by the seed
  // Evaluations in a row without a better held-out KL (without a teacher: loss) after which training ends; the best weights are then the
  // result, the last ones lie in OUTPUT/last. 0: all steps, and the last weights; the best ones lie in OUTPUT/best.
  std::int64_t patience = 0;
  bool resume = false;             // go on from OUTPUT.training if it is there
  std::string device = "cpu";
  std::string compute = "f32";     // of products and activations: f32 or bf16; weights, moments and losses are float32 all the same
  bool tf32 = false;               // CUDA: matrix products with 10 bits of mantissa
  std::string dtype = "f32";       // of the weights written: f32, f16 or bf16
  std::uint64_t seed = 0;
};

// Whether there are evaluations during the training, so that the best one's weights are kept.
bool keeps_best(const DistillJob& job);

// Returns what was reached: steps, parameters, loss, held-out figures, tokens per second. Throws Error; Interrupted after it
// has saved the state. Started several times by a launcher (process_group.h) it is one run of all these processes; only the first
// one writes and returns something, the others null.
nlohmann::json run_distillation(const DistillJob& job);

}  // namespace attar
