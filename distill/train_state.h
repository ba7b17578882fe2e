// A training run on disk: one safetensors file with weights, moments and, in its metadata, everything else. One file,
// renamed into place when whole, so that a crash while saving leaves the state before it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "distill/adamw.h"
#include "distill/process_group.h"

namespace attar {

struct TrainProgress {
  std::int64_t done = 0, bad = 0;  // steps; bad steps in a row
  nlohmann::json position;         // in the data
  nlohmann::json run;              // what the run was asked to do: an object of plain values
  nlohmann::json notes;            // what else the run remembers
};

// average: of the weights, or undefined. group: null, or all processes make this call, each with its slice of the optimizer's state, and the
// first one writes; slices go to it parameter by parameter, never all at once.
void write_train_state(const std::filesystem::path& file, const FlatParameters& parameters, const AdamW& optimizer,
                       const at::Tensor& average, const TrainProgress& progress, ProcessGroup* group = nullptr);
// Fills parameters, optimizer (the slice that it has) and average. Throws Error if the state is damaged or `run` asks for something else (names what).
TrainProgress read_train_state(const std::filesystem::path& file, FlatParameters& parameters, AdamW& optimizer,
                               const at::Tensor& average, const nlohmann::json& run);

// One set of weights in the parameters' layout.
void write_weights(const std::filesystem::path& file, const FlatParameters& parameters, const at::Tensor& flat);
void read_weights(const std::filesystem::path& file, const FlatParameters& parameters, const at::Tensor& flat);

}  // namespace attar
