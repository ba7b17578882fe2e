// How fast a model reads a prompt and writes tokens; without a model, how fast the kernels are.
#include <chrono>
#include <iomanip>
#include <iostream>
#include <memory>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "cli/command.h"
#include "cli/numbers.h"
#include "cli/text_model.h"
#include "eval/report/plot.h"
#include "kernels_ref/multiply.h"
#include "runtime/generate.h"
#include "runtime/roofline.h"

namespace attar::cli {
namespace {

struct BenchOptions {
  Common common;
  std::string model, svg;
  std::int64_t prompt = 128, decode = 64;
  ModelRun how;
};

constexpr double kGiga = 1e9;

int bench_model(const BenchOptions& options) {
  if (!options.svg.empty()) fail("bench: --svg draws the kernels; leave the model out");
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const bool kernels = on_kernels("bench", checkpoint, options.how);
  const auto load_start = std::chrono::steady_clock::now();
  const OpenModel model = open_model(checkpoint, options.how, kernels);
  const double load_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - load_start).count();
  const double before = kernels ? measure_read_bandwidth() : 0.0;
  const DecodeRate rate = measure_rates(*model.text, options.prompt, options.decode);
  const std::uint64_t held = model.text->weight_bytes();
  std::cout << std::fixed << std::setprecision(1) << "prompt  " << rate.prompt() << " tokens/s (" << rate.prompt_tokens
            << " tokens)\n"
            << "decode  " << rate.decode() << " tokens/s (" << rate.decode_tokens << " tokens, " << size_text(held)
            << " of weights in memory" << (kernels ? cat(", through the kernels, ", kernel_variant()) : ", in float32") << ")\n";
  const auto part = [](std::int64_t tokens, double seconds, double per_second) {
    return nlohmann::json{{"tokens", tokens}, {"seconds", seconds}, {"tokens_per_second", per_second}};
  };
  nlohmann::json result = {{"threads", thread_count()},
                           {"weight_bytes", held},
                           {"kernels", kernels},
                           {"load_seconds", load_seconds},
                           {"prompt_tokens_per_second", rate.prompt()},
                           {"decode_tokens_per_second", rate.decode()},
                           {"prompt", part(rate.prompt_tokens, rate.prompt_seconds, rate.prompt())},
                           {"decode", part(rate.decode_tokens, rate.decode_seconds, rate.decode())}};
  result["decode"]["median_token_seconds"] = rate.token_seconds;
  if (kernels) {
    const auto weights = static_cast<double>(model.runner->bytes_per_token());
    // Keys and values at the middle of the decoded part.
    const double context = static_cast<double>(rate.prompt_tokens) + static_cast<double>(rate.decode_tokens) / 2;
    const double cache = context * static_cast<double>(model.runner->cache_bytes_per_token());
    // Before and after: what memory gives changes with what else the machine does.
    const double bandwidth = (before + measure_read_bandwidth()) / 2, used = (weights + cache) / rate.token_seconds;
    std::cout << "memory  " << weights / 1e6 << " MB of weights and " << cache / 1e6 << " MB of keys and values per token: "
              << used / kGiga << " of " << bandwidth / kGiga << " GB/s (" << 100 * used / bandwidth << " %; medians)\n";
    result["variant"] = kernel_variant();
    result["bytes_per_token"] = {{"weights", weights}, {"cache", cache}};
    result["read_bandwidth"] = bandwidth;
    result["bandwidth_share"] = used / bandwidth;
  }
  add_model(result, options.common, "model", options.model);
  write_result(options.common, "bench", std::move(result));
  return kDone;
}

// Of one type: how its products do with one token, which reads every weight once, and with many.
struct KernelRate {
  std::string type;
  double bytes_per_weight = 0, one = 0, many = 0;  // multiplications per second
  double bandwidth = 0;                            // bytes per second, read beside the products of one token
};
constexpr std::size_t kTokens = 64;

KernelRate measure_kernel(const TypeInfo& type, Random& random) {
  // Many times what caches hold, as the weights of a model are.
  constexpr std::size_t kBytes = std::size_t{1} << 28, kPattern = std::size_t{1} << 20, kColumns = 2048;
  const std::size_t stride = row_bytes(type.type, kColumns), rows = kBytes / stride;
  Bytes bytes(rows * stride);
  for (std::size_t i = 0; i < bytes.size(); ++i)  // small scales, no NaN among them
    bytes[i] = i < kPattern ? static_cast<std::byte>(random.below(60)) : bytes[i - kPattern];
  const Matrix W{type.type, bytes, rows, kColumns};
  std::vector<float> x(kTokens * kColumns), y(kTokens * rows);
  for (float& value : x) value = static_cast<float>(random.uniform() - 0.5);
  Activations one, many;
  one.round(default_rounding(type.type), Span<const float>(x).first(kColumns), 1);
  many.round(default_rounding(type.type), x, kTokens);
  std::vector<double> read, once;  // in turn, so that both meet the same state of the machine
  for (int pass = 0; pass < 9; ++pass) {
    read.push_back(seconds_of([&] { read_once(bytes); }));
    once.push_back(seconds_of([&] { multiply(W, one, Span<float>(y).first(rows)); }));
  }
  const auto weights = static_cast<double>(rows * kColumns), size = static_cast<double>(bytes.size());
  return {type.name, size / weights, weights / median(once), weights * kTokens / median_seconds([&] { multiply(W, many, y); }), size / median(read)};
}

Plot roofline(const std::vector<KernelRate>& rates, double bandwidth, double peak) {
  Plot plot{.id = "roofline",
            .title = cat("Products of packed weights, ", kernel_variant(), ", ", thread_count(), " threads"),
            .description = "Multiplications per second over multiplications per byte of weights read; lines: what memory and processor allow.",
            .x = {.label = "multiplications per byte", .logarithmic = true},
            .y = {.label = "thousand million multiplications per second", .logarithmic = true}};
  Series roof{.style = Series::Style::kPointsAndLine, .colour = 5}, one{.name = "one token", .style = Series::Style::kPoints},
      many{.name = cat(kTokens, " tokens"), .style = Series::Style::kPoints, .colour = 1, .shape = 1};
  const double corner = peak / bandwidth, first = 0.5, last = std::max(400.0, 2 * corner);
  const std::string memory = cat("memory ", rounded(bandwidth / kGiga, 3), " GB/s"), compute = cat("products ", rounded(peak / kGiga, 3));
  roof.points = {{first, first * bandwidth / kGiga, memory, memory}, {corner, peak / kGiga, compute, ""}, {last, peak / kGiga, compute, compute}};
  for (const KernelRate& rate : rates) {
    const auto point = [&](double tokens, double value, const std::string& label) {
      return PlotPoint{tokens / rate.bytes_per_weight, value / kGiga, cat(rate.type, ": ", rounded(value / kGiga, 3)), label};
    };
    one.points.push_back(point(1, rate.one, rate.type)), many.points.push_back(point(kTokens, rate.many, ""));
  }
  plot.series = {roof, one, many};
  return plot;
}

int bench_kernels(const BenchOptions& options) {
  refuse_kv_cache(options.how.cache, "bench");
  if (options.how.floats || !is_processor(options.how.device))
    fail("bench: --float and --device are for a model; without one the kernels are measured, on the processor: leave them out");
  const double peak = measure_product_rate();
  std::cout << "kernels " << kernel_variant() << ", " << thread_count() << " threads; " << std::fixed << std::setprecision(1) << peak / kGiga
            << " GMAC/s from the first cache; medians\n"
            << "type      GB/s   memory, GB/s   share   " << kTokens << " tokens, GMAC/s   of the peak\n";
  Random random(0);
  std::vector<KernelRate> rates;
  nlohmann::json table = nlohmann::json::array();
  for (const TypeInfo& type : all_types()) {
    if (default_rounding(type.type) == Rounding::kNone) continue;
    check_interrupt();
    const KernelRate& rate = rates.emplace_back(measure_kernel(type, random));
    const double bytes = rate.one * rate.bytes_per_weight;
    std::cout << std::left << std::setw(8) << type.name << std::right << std::setw(6) << bytes / kGiga << std::setw(14)
              << rate.bandwidth / kGiga << std::setw(8) << 100 * bytes / rate.bandwidth << " %" << std::setw(20) << rate.many / kGiga
              << std::setw(14) << 100 * rate.many / peak << " %" << std::endl;
    table.push_back({{"type", type.name}, {"bytes_per_second", bytes}, {"read_bandwidth", rate.bandwidth}, {"bandwidth_share", bytes / rate.bandwidth},
                     {"multiplications_per_second", rate.many}, {"peak_share", rate.many / peak}});
  }
  std::vector<double> bandwidths;
  for (const KernelRate& rate : rates) bandwidths.push_back(rate.bandwidth);
  const double bandwidth = median(std::move(bandwidths));
  if (!options.svg.empty()) write_text_file(options.svg, svg_file(roofline(rates, bandwidth, peak)));
  write_result(options.common, "bench",
               {{"threads", thread_count()}, {"variant", kernel_variant()}, {"read_bandwidth", bandwidth}, {"product_peak", peak}, {"kernels", std::move(table)}});
  return kDone;
}

}  // namespace

void add_bench(CLI::App* sub) {
  auto options = std::make_shared<BenchOptions>();
  set_action(*sub, options->common, [options] { return options->model.empty() ? bench_kernels(*options) : bench_model(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf; none: the kernels of every type");
  sub->add_option("--prompt", options->prompt, "Tokens of the prompt")->check(kPositive);
  sub->add_option("--decode", options->decode, "Tokens decoded one by one")->check(kPositive);
  add_kv_cache(*sub, options->how.cache);
  add_float(*sub, options->how.floats);
  sub->add_option("--svg", options->svg, "Without a model: draw the kernels under what memory and processor allow (a roofline)");
  add_device(*sub, options->how.device);
}

}  // namespace attar::cli
