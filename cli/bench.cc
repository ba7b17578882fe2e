// How fast a model reads a prompt and writes tokens; without a model, how fast the kernels are.
#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/console.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "cli/command.h"
#include "cli/kv_cache.h"
#include "kernels_ref/multiply.h"
#include "model/generate.h"
#include "runtime/bandwidth.h"

namespace attar::cli {
namespace {

struct BenchOptions {
  Common common;
  std::string model, device = "cpu";
  std::int64_t prompt = 128, decode = 64;
  bool floats = false;
  CacheType cache = CacheType::kF16;
};

constexpr double kGiga = 1e9;

int bench_model(const BenchOptions& options) {
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const at::Device device = parse_device(options.device);
  const bool kernels = device.is_cpu() && !options.floats && has_packed_matrices(checkpoint);
  const auto load_start = std::chrono::steady_clock::now();
  const auto runner = kernels ? std::make_unique<Runner>(checkpoint, RunnerOptions{.cache = options.cache}) : nullptr;
  const auto decoder = kernels ? nullptr : load_decoder(checkpoint, device);
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - load_start).count();
  const DecodeRate rate = kernels ? measure_rates(*runner, options.prompt, options.decode)
                                  : measure_rates(*decoder, options.prompt, options.decode);
  const std::uint64_t held = kernels ? runner->weight_bytes() : decoder->weight_bytes();
  std::cout << std::fixed << std::setprecision(1) << "prompt  " << rate.prompt() << " tokens/s (" << rate.prompt_tokens
            << " tokens)\n"
            << "decode  " << rate.decode() << " tokens/s (" << rate.decode_tokens << " tokens, " << size_text(held)
            << " of weights in memory" << (kernels ? cat(", through the kernels, ", kernel_variant()) : ", in float32") << ")\n";
  const auto part = [](std::int64_t tokens, double seconds, double per_second) {
    return nlohmann::json{{"tokens", tokens}, {"seconds", seconds}, {"tokens_per_second", per_second}};
  };
  nlohmann::json result = {{"model", options.model},
                           {"threads", thread_count()},
                           {"weight_bytes", held},
                           {"kernels", kernels},
                           {"load_seconds", load_seconds},
                           {"prompt_tokens_per_second", rate.prompt()},
                           {"decode_tokens_per_second", rate.decode()},
                           {"prompt", part(rate.prompt_tokens, rate.prompt_seconds, rate.prompt())},
                           {"decode", part(rate.decode_tokens, rate.decode_seconds, rate.decode())}};
  if (kernels) {
    const auto weights = static_cast<double>(runner->bytes_per_token());
    // Keys and values at the middle of the decoded part.
    const double context = static_cast<double>(rate.prompt_tokens) + static_cast<double>(rate.decode_tokens) / 2;
    const double cache = context * static_cast<double>(runner->cache_bytes_per_token());
    const double bandwidth = measure_read_bandwidth(), used = (weights + cache) * rate.decode();
    std::cout << "memory  " << weights / 1e6 << " MB of weights and " << cache / 1e6 << " MB of keys and values per token: "
              << used / kGiga << " of " << bandwidth / kGiga << " GB/s (" << 100 * used / bandwidth << " %)\n";
    result["variant"] = kernel_variant();
    result["bytes_per_token"] = {{"weights", weights}, {"cache", cache}};
    result["read_bandwidth"] = bandwidth;
    result["bandwidth_share"] = used / bandwidth;
  }
  write_result(options.common, "bench", std::move(result));
  return kDone;
}

// Seconds that one product takes, the best of several.
double seconds_of_product(const Matrix& W, std::size_t tokens, Random& random) {
  std::vector<float> values(tokens * W.columns), y(tokens * W.rows);
  for (float& value : values) value = static_cast<float>(random.uniform() - 0.5);
  Activations x;
  x.round(default_rounding(W.type), values, tokens);
  double best = 1e9;
  for (int pass = 0; pass < 5; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    multiply(W, x, y);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

int bench_kernels(const BenchOptions& options) {
  // Many times what caches hold, as the weights of a model are.
  constexpr std::size_t kBytes = std::size_t{1} << 28, kPattern = std::size_t{1} << 20, kColumns = 2048, kTokens = 64;
  const double bandwidth = measure_read_bandwidth();
  std::cout << "kernels " << kernel_variant() << ", " << thread_count() << " threads, memory is read at " << std::fixed
            << std::setprecision(1) << bandwidth / kGiga << " GB/s\n"
            << "type      GB/s   of memory   " << kTokens << " tokens, GMAC/s\n";
  Random random(0);
  nlohmann::json table = nlohmann::json::array();
  for (const TypeInfo& type : all_types()) {
    if (default_rounding(type.type) == Rounding::kNone) continue;
    check_interrupt();
    const std::size_t rows = kBytes / row_bytes(type.type, kColumns);
    Bytes bytes(rows * row_bytes(type.type, kColumns));
    for (std::size_t i = 0; i < bytes.size(); ++i)  // small scales, no NaN among them
      bytes[i] = i < kPattern ? static_cast<std::byte>(random.below(60)) : bytes[i - kPattern];
    const Matrix W{type.type, bytes, rows, kColumns};
    const double rate = static_cast<double>(bytes.size()) / seconds_of_product(W, 1, random);
    const double macs = static_cast<double>(rows * kColumns * kTokens) / seconds_of_product(W, kTokens, random);
    std::cout << std::left << std::setw(8) << type.name << std::right << std::setw(6) << rate / kGiga << std::setw(10)
              << 100 * rate / bandwidth << " %" << std::setw(14) << macs / kGiga << "\n";
    table.push_back({{"type", type.name}, {"bytes_per_second", rate}, {"bandwidth_share", rate / bandwidth}, {"multiplications_per_second", macs}});
  }
  write_result(options.common, "bench",
               {{"threads", thread_count()}, {"variant", kernel_variant()}, {"read_bandwidth", bandwidth}, {"kernels", std::move(table)}});
  return kDone;
}

}  // namespace

void add_bench(CLI::App& app) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* sub = add_command(app, "bench", "Measure prompt and decode speed, or without a model the kernels", options->common,
                              [options] { return options->model.empty() ? bench_kernels(*options) : bench_model(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf; none: the kernels of every type");
  sub->add_option("--prompt", options->prompt, "Tokens of the prompt")->check(CLI::PositiveNumber);
  sub->add_option("--decode", options->decode, "Tokens decoded one by one")->check(CLI::PositiveNumber);
  add_kv_cache(*sub, options->cache);
  sub->add_flag("--float", options->floats, "Compute a quantized model in float32 instead of through the kernels");
  sub->add_option("--device", options->device, "cpu, cuda or cuda:N");
}

}  // namespace attar::cli
