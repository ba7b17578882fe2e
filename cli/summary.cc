#include "cli/summary.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "base/files.h"
#include "base/text.h"
#include "cli/text_model.h"
#include "runtime/generate.h"

namespace attar::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kSampleTokens = 48;
constexpr double kWarmth = 0.8;  // temperature of the samples after the first
constexpr std::uint64_t kWarmSamples = 2;

// Size on disk of the weights: a .gguf, or the safetensors of a folder.
std::uint64_t weight_bytes(const fs::path& path) {
  if (fs::is_regular_file(path)) return fs::file_size(path);
  std::uint64_t total = 0;
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.path().extension() == ".safetensors") total += entry.file_size();
  return total;
}

// Up to the end of the last whole sentence, on one line.
std::string whole_sentences(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  const std::size_t end = text.find_last_of(".!?");
  if (end == std::string::npos) return text + " ...";
  return text.substr(0, end + (text.compare(end + 1, 1, "\"") == 0 ? 2 : 1));
}

json eval_figures(const Recipe& recipe, const std::string& role) {
  const fs::path file = recipe.output / ("eval-" + role + ".json");
  return fs::exists(file) ? json::parse(read_text_file(file)) : json::object();
}

json describe_model(const Recipe& recipe, const std::string& role, const std::string& name, std::uint64_t seed) {
  const Checkpoint checkpoint = open_checkpoint(name);
  const std::uint64_t parameters = checkpoint.parameter_count();
  json row = {{"role", role},
              {"path", name},
              {"parameters", parameters},
              {"bytes", weight_bytes(checkpoint.path)},
              {"bits_per_weight", 8.0 * static_cast<double>(checkpoint.tensor_bytes()) / static_cast<double>(parameters)}};
  const json figures = eval_figures(recipe, role);
  const auto copy = [&](const char* to, const char* pointer) {
    const json::json_pointer place(pointer);
    if (figures.contains(place)) row[to] = figures[place];
  };
  copy("perplexity", "/perplexity/value");
  copy("bits_per_byte", "/bits_per_byte/value");
  row["vocabulary"] = checkpoint.tokenizer.tokens.size();
  copy("kl_divergence", "/kl_divergence/mean");
  copy("same_top", "/same_top/share");

  // As the model will run: quantized ones through the kernels.
  const ModelRun how;
  const OpenModel model = open_model(checkpoint, how, on_kernels("run", checkpoint, how));
  row["decode_tokens_per_second"] = measure_rates(*model.text).decode();
  const Tokenizer tokenizer(checkpoint.tokenizer);
  const auto add_sample = [&](double temperature, std::uint64_t own_seed) {
    GenerateOptions options;
    options.max_tokens = kSampleTokens;
    options.seed = own_seed;
    options.sampling.temperature = temperature;
    const Ids prompt = tokenizer.encode(recipe.prompt, true);
    const std::string text = generate(*model.text, tokenizer, prompt, options).text;
    row["samples"].push_back({{"prompt", recipe.prompt}, {"how", description(options)}, {"text", whole_sentences(text)}});
  };
  add_sample(0, seed);
  for (std::uint64_t i = 1; i <= kWarmSamples; ++i) add_sample(kWarmth, seed + i);
  row["sample"] = recipe.prompt + row["samples"][0]["text"].get<std::string>();
  return row;
}

std::string number(const json& row, const char* key, int digits, double factor = 1.0, const char* unit = "") {
  if (!row.contains(key) || !row[key].is_number()) return "-";
  std::ostringstream text;
  text << std::fixed << std::setprecision(digits) << row[key].get<double>() * factor << unit;
  return text.str();
}

}  // namespace

json summarise(const Recipe& recipe, std::uint64_t seed) {
  json models = json::array();
  const std::pair<const char*, const std::string&> roles[] = {
      {"teacher", recipe.teacher}, {"student", recipe.student}, {"quantized", recipe.quantized}};
  for (const auto& [role, path] : roles)
    if (!path.empty()) models.push_back(describe_model(recipe, role, path, seed));
  return {{"output", recipe.output.string()}, {"prompt", recipe.prompt}, {"models", models}};
}

std::string summary_table(const json& summary) {
  std::vector<std::string> head = {"", "parameters", "bytes", "bits/weight", "perplexity", "mean KL", "same top", "decode tok/s"};
  // A perplexity is one per token: of another vocabulary it says nothing beside the teacher's.
  const auto& models = summary["models"];
  const bool bits = std::any_of(models.begin(), models.end(), [&](const json& row) { return row["vocabulary"] != models[0]["vocabulary"]; });
  const std::ptrdiff_t place = 5;
  if (bits) head.insert(head.begin() + place, "bits/byte");
  std::vector<std::vector<std::string>> rows = {head};
  for (const auto& row : models) {
    rows.push_back({row["role"], number(row, "parameters", 2, 1e-6, " M"), size_text(row["bytes"].get<std::uint64_t>()),
                    number(row, "bits_per_weight", 2), number(row, "perplexity", 4), number(row, "kl_divergence", 4),
                    number(row, "same_top", 1, 100, " %"), number(row, "decode_tokens_per_second", 0)});
    if (bits) rows.back().insert(rows.back().begin() + place, number(row, "bits_per_byte", 4));
  }
  std::ostringstream text;
  for (const auto& row : rows) {
    for (std::size_t column = 0; column < head.size(); ++column) {
      std::size_t width = 0;
      for (const auto& other : rows) width = std::max(width, other[column].size());
      text << (column == 0 ? "" : "  ") << (column == 0 ? std::left : std::right) << std::setw(static_cast<int>(width)) << row[column];
    }
    text << "\n";
  }
  text << "\n";
  for (const auto& row : summary["models"]) text << row["role"].get<std::string>() << ": " << row["sample"].get<std::string>() << "\n";
  return text.str();
}

}  // namespace attar::cli
