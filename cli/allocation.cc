#include "cli/allocation.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "convert/mlx.h"
#include "eval/measure.h"
#include "eval/protocol.h"
#include "quantize/sensitivity_file.h"

namespace attar::cli {
namespace {

constexpr std::size_t kSensitivityChunks = 8;
constexpr int kCurvePoints = 10;

// What the output takes with these types, to the byte; no matrix is read.
std::uint64_t output_bytes(Checkpoint model, const fs::path& output, const std::vector<Sensitivity>& matrices, const std::vector<Candidate>& types) {
  std::map<std::string, Type> type_of;
  for (std::size_t i = 0; i < types.size(); ++i) type_of[matrices[i].name] = types[i].type;
  for (Tensor& tensor : model.tensors)
    if (const auto found = type_of.find(tensor.name); found != type_of.end()) tensor = {tensor.name, found->second, tensor.shape, {}};
  return is_gguf(output) ? gguf_bytes(model, output) : hf_bytes(model);
}

std::uint64_t matrix_bytes(Type type, const Tensor& tensor, const fs::path& output) {
  const Type stored = is_gguf(output) ? type : type_in_folder({tensor.name, type, tensor.shape, {}});
  return row_bytes(stored, static_cast<std::uint64_t>(tensor.columns())) * static_cast<std::uint64_t>(tensor.rows());
}

double bits(const Choices& choices, std::uint64_t bytes) { return 8.0 * static_cast<double>(bytes) / static_cast<double>(choices.weights); }

std::vector<Sensitivity> measured(const Target& target, const Checkpoint& model, const fs::path& output, const std::vector<Ids>& chunks) {
  const std::vector<Ids> few(chunks.begin(), chunks.begin() + static_cast<std::ptrdiff_t>(std::min(kSensitivityChunks, chunks.size())));
  const std::vector<Type> allowed = allowed_types(target, output);
  if (target.sensitivities.empty()) return measure_sensitivities(model, few, allowed);
  const nlohmann::json key = sensitivity_key(model, few);
  if (!fs::exists(target.sensitivities)) {
    std::vector<Type> types = usual_types(output);  // so that the file serves other --types too
    for (const Type type : allowed)
      if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
    write_sensitivities(measure_sensitivities(model, few, types), key, target.sensitivities);
  }
  return read_sensitivities(target.sensitivities, key, model, allowed);
}

// Overrides leave nothing to choose, but take their bytes; a folder stores plain groups as MLX does.
void settle(const std::vector<TypeOverride>& overrides, const Checkpoint& model, const fs::path& output, std::vector<Sensitivity>& sensitivities) {
  for (Sensitivity& entry : sensitivities) {
    const Tensor& tensor = model.at(entry.name);
    if (const std::optional<Type> type = overridden(overrides, entry.name, tensor.shape)) {
      Candidate only{*type};
      for (const Candidate& known : entry.candidates)
        if (known.type == *type) only = known;
      entry.candidates = {only};
    }
    for (Candidate& one : entry.candidates) one.bytes = matrix_bytes(one.type, tensor, output);
    std::stable_sort(entry.candidates.begin(), entry.candidates.end(), [](const Candidate& a, const Candidate& b) { return a.bytes < b.bytes; });
  }
}

std::vector<Candidate> smallest_types(const Choices& choices) {
  std::vector<Candidate> types;
  for (const Sensitivity& entry : choices.sensitivities) types.push_back(entry.candidates.front());
  return types;
}

void check_reach(const Target& target, const Choices& choices) {
  const std::vector<Candidate> smallest = smallest_types(choices);
  if (const double least = bits(choices, total(smallest).bytes); target.bpw > 0 && least > target.bpw)
    fail("--target-bpw ", target.bpw, ": the types allowed need at least ", std::ceil(100 * least) / 100, "; give that, or smaller --types");
  if (target.size.empty()) return;
  if (const std::uint64_t least = choices.output_bytes(smallest); least > parse_size("--target-size", target.size))
    fail("--target-size ", target.size, ": the types allowed need at least ", least, " bytes with tokenizer, names and norms; give that, or smaller --types");
}

// What measuring says of expected costs: 1 without measurement.
double correction(const Chosen& chosen) {
  if (chosen.trials.all.empty()) return 1;
  const Trial& best = chosen.trials.all[chosen.trials.best];
  return best.measured / best.expected;
}

}  // namespace

Choices measure_choices(const Target& target, const std::vector<TypeOverride>& overrides, const Checkpoint& model, const fs::path& output,
                        const std::vector<Ids>& chunks) {
  if (chunks.empty()) fail("quantize: choosing types needs text; give --calibration FILE, or --calibration builtin:calibration");
  Choices choices;
  for (const Tensor& tensor : model.tensors)
    if (tensor.shape.size() >= 2) choices.weights += element_count(tensor.shape);
  choices.sensitivities = sensitivities_from(model, allowed_types(target, output), [](const Tensor&, Type) { return 0.0; });
  settle(overrides, model, output, choices.sensitivities);
  choices.output_bytes = [model, output, matrices = choices.sensitivities](const std::vector<Candidate>& types) {
    return output_bytes(model, output, matrices, types);
  };
  check_reach(target, choices);  // before anything is measured
  choices.sensitivities = measured(target, model, output, chunks);
  settle(overrides, model, output, choices.sensitivities);
  return choices;
}

std::vector<Candidate> choose(const Target& target, const Choices& choices) {
  if (target.bpw > 0)
    return allocate(choices.sensitivities, static_cast<std::uint64_t>(target.bpw / 8 * static_cast<double>(choices.weights)));
  // What comes beside the matrices hangs on their types too: headers, padding, settings in config.json.
  const std::uint64_t size = parse_size("--target-size", target.size);
  std::vector<Candidate> chosen = smallest_types(choices);
  const std::uint64_t smallest = total(chosen).bytes;
  std::uint64_t budget = size - (choices.output_bytes(chosen) - smallest);
  while (budget >= smallest) {
    std::vector<Candidate> tried = allocate(choices.sensitivities, budget);
    const std::uint64_t bytes = choices.output_bytes(tried);
    if (bytes <= size) return tried;
    budget -= std::min(budget, bytes - size);
  }
  return chosen;
}

void assign(const Choices& choices, const std::vector<Candidate>& chosen, PlanOptions& plan) {
  std::map<Type, std::uint64_t> bytes;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const std::string& name = choices.sensitivities[i].name;
    plan.assigned[name] = chosen[i].type;
    bytes[chosen[i].type] += chosen[i].bytes;
    detail(cat(name, ": ", info(chosen[i].type).name, ", ", chosen[i].bytes, " bytes, expected KL ", chosen[i].cost));
  }
  // The preset of the type that most of it is in gives a .gguf its file type.
  const auto most = std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  for (const Preset& preset : all_presets())
    if (preset.type == most->first) plan.preset = &preset;
}

std::vector<Ids> aside_chunks(const Ids& aside, const TokenizerData& tokenizer, std::int64_t context) {
  if (context < 4 || static_cast<std::int64_t>(aside.size()) < 2 * context)
    fail("--target-kld measures on a quarter of the calibration text at most, and ", aside.size(), " tokens make no two chunks of ", context,
         "; give more text or a smaller --context");
  ChunkOptions options;
  options.context = context;
  return cut_chunks(aside, options, chunk_bos(tokenizer), "the text kept aside");
}

Estimate divergence_on(const std::vector<Ids>& aside, const Checkpoint& original, const Checkpoint& quantized) {
  std::vector<Sequence> sequences;
  for (const Ids& chunk : aside) {
    const auto length = static_cast<std::int64_t>(chunk.size());
    sequences.push_back({chunk, first_scored(length), length - 1});
  }
  const auto model = load_decoder(quantized), reference = load_decoder(original);
  return mean(measure(*model, reference.get(), sequences, "kept aside").kl);
}

nlohmann::json curve_json(const Choices& choices, const Chosen& chosen) {
  nlohmann::json curve = nlohmann::json::array(), trials = nlohmann::json::array();
  const auto add_point = [&](const std::vector<Candidate>& types, bool is_chosen) {
    const Total sum = total(types);
    curve.push_back({{"bytes", choices.output_bytes(types)},
                     {"bits_per_weight", bits(choices, sum.bytes)},
                     {"expected_kl", sum.cost * correction(chosen)},
                     {"chosen", is_chosen}});
  };
  add_point(chosen.types, true);
  for (const std::vector<Candidate>& types : cost_curve(choices.sensitivities, kCurvePoints))
    if (total(types).bytes != total(chosen.types).bytes) add_point(types, false);
  std::sort(curve.begin(), curve.end(), [](const auto& a, const auto& b) { return a["bits_per_weight"] < b["bits_per_weight"]; });
  for (std::size_t i = 0; i < chosen.trials.all.size(); ++i)
    trials.push_back({{"bytes", choices.output_bytes(chosen.trials.all[i].chosen)},
                      {"expected_kl", chosen.trials.all[i].expected},
                      {"measured_kl", chosen.measured[i].value},
                      {"uncertainty", chosen.measured[i].uncertainty},
                      {"chosen", i == chosen.trials.best}});
  nlohmann::json json = {{"curve", std::move(curve)}};
  if (!trials.empty()) json.update({{"trials", std::move(trials)}, {"chunks_kept_aside", chosen.aside}});
  return json;
}

void print_curve(const nlohmann::json& allocation) {
  const auto number = [](const nlohmann::json& of, const char* key) { return of[key].get<double>(); };
  const auto bytes = [](const nlohmann::json& of) { return of["bytes"].get<std::uint64_t>(); };
  std::cout << std::fixed;
  const bool tried = allocation.contains("trials");
  if (tried)
    for (std::size_t i = 0; i < allocation["trials"].size(); ++i) {
      const nlohmann::json& trial = allocation["trials"][i];
      std::cout << "trial " << i + 1 << ": " << bytes(trial) << " bytes, KL divergence expected " << std::setprecision(5)
                << number(trial, "expected_kl") << " of rounding to nearest, measured " << number(trial, "measured_kl") << " +- "
                << number(trial, "uncertainty") << " on " << allocation["chunks_kept_aside"] << " chunks kept aside\n";
    }
  std::cout << std::setw(13) << "bytes" << std::setw(13) << "bits/weight" << std::setw(13) << "expected KL"
            << (tried ? "  (scaled to what was measured)" : "  (of rounding to nearest; GPTQ lowers it)") << "\n";
  for (const nlohmann::json& point : allocation["curve"])
    std::cout << std::setw(13) << bytes(point) << std::setw(13) << std::setprecision(2) << number(point, "bits_per_weight") << std::setw(13)
              << std::setprecision(5) << number(point, "expected_kl") << (point["chosen"] == true ? "  chosen" : "") << "\n";
}

}  // namespace attar::cli
