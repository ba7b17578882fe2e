#include "cli/text_model.h"

#include "base/error.h"
#include "cli/hand_over.h"
#include "model/generate.h"

namespace attar::cli {

void add_kv_cache(CLI::App& sub, std::optional<CacheType>& cache) {
  sub.add_option_function<std::string>(
         "--kv-cache", [&cache](const std::string& name) { cache = name == "q8_0" ? CacheType::kQ8_0 : CacheType::kF16; },
         "How keys and values are kept by a quantized model: f16, or q8_0 in about half the memory")
      ->check(CLI::IsMember({"f16", "q8_0"}))
      ->default_str("f16");
}

void add_float(CLI::App& sub, bool& floats) {
  sub.add_flag("--float", floats, "Compute a quantized model in float32 instead of through the kernels");
}

void add_device(CLI::App& sub, std::string& device) { sub.add_option("--device", device, "cpu, cuda or cuda:N"); }

void refuse_kv_cache(const std::optional<CacheType>& cache, const std::string& command) {
  if (cache) fail(command, ": --kv-cache is for quantized models that run through the kernels, not for float ones, --float or --batch; leave it out");
}

bool is_processor(const std::string& device) { return device == "cpu" || device == "cpu:0"; }

bool on_kernels(const std::string& command, const Checkpoint& checkpoint, const ModelRun& how) {
  if (is_processor(how.device) && !how.floats && has_packed_matrices(checkpoint)) return true;
  refuse_kv_cache(how.cache, command);
  need_torch();
  return false;
}

OpenModel open_model(const Checkpoint& checkpoint, const ModelRun& how, bool kernels) {
  if (!kernels) return {load_text_model(checkpoint, how.device)};
  auto runner = std::make_unique<Runner>(checkpoint, RunnerOptions{.cache = how.cache.value_or(CacheType::kF16)});
  const Runner* own = runner.get();
  return {std::move(runner), own};
}

}  // namespace attar::cli
