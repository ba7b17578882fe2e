// How commands run a model that writes: quantized ones through the kernels, others in float32 by LibTorch.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "convert/checkpoint.h"
#include "runtime/runner.h"

namespace attar::cli {

struct ModelRun {
  std::string device = "cpu";
  bool floats = false;
  std::optional<CacheType> cache;
};
void add_kv_cache(CLI::App& sub, std::optional<CacheType>& cache);
void add_float(CLI::App& sub, bool& floats);
void add_device(CLI::App& sub, std::string& device);
bool is_processor(const std::string& device);  // "cpu", or as LibTorch also takes it, "cpu:0"

// Where no runner keeps keys and values. Throws Error.
void refuse_kv_cache(const std::optional<CacheType>& cache, const std::string& command);

// Whether the kernels run it. Throws Error for a --kv-cache that then means nothing, and NeedsTorch: ask before standard input is read.
bool on_kernels(const std::string& command, const Checkpoint& checkpoint, const ModelRun& how);

struct OpenModel {
  std::unique_ptr<TextModel> text;
  const Runner* runner = nullptr;  // the same, if the kernels run it
};
// kernels: as on_kernels said.
OpenModel open_model(const Checkpoint& checkpoint, const ModelRun& how, bool kernels);

}  // namespace attar::cli
