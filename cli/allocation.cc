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
#include "eval/measure.h"
#include "eval/protocol.h"
#include "quantize/sensitivity_file.h"

namespace attar::cli {
namespace {

constexpr std::size_t kSensitivityChunks = 8;
constexpr int kCurvePoints = 10;

// What a .gguf takes beside its matrices: tokenizer, names, norms and padding.
std::uint64_t bytes_beside_matrices(const Checkpoint& model, const fs::path& output) {
  GgufOptions plain;
  plain.type = Type::kF16;
  std::uint64_t rest = gguf_bytes(model, output, plain);
  for (const Tensor& tensor : model.tensors)
    if (tensor.shape.size() >= 2) rest = rest - 2 * element_count(tensor.shape) + 31;
  return rest;
}

// The curve with the choice on it, ascending in bytes.
struct CurvePoint {
  Total total;
  bool chosen = false;
};
std::vector<CurvePoint> curve_points(const Choices& choices, const Chosen& chosen) {
  std::vector<CurvePoint> points{{total(chosen.types), true}};
  for (const Total& one : cost_curve(choices.sensitivities, kCurvePoints))
    if (one.bytes != points.front().total.bytes) points.push_back({one});
  std::sort(points.begin(), points.end(), [](const CurvePoint& a, const CurvePoint& b) { return a.total.bytes < b.total.bytes; });
  return points;
}

double bits(const Choices& choices, std::uint64_t bytes) { return 8.0 * static_cast<double>(bytes) / static_cast<double>(choices.weights); }

Choices measured(const Target& target, const Checkpoint& model, const fs::path& output, const std::vector<Ids>& chunks) {
  if (chunks.empty()) fail("quantize: choosing types needs text; give --calibration FILE, or --calibration builtin:calibration");
  Choices choices;
  for (const Tensor& tensor : model.tensors)
    if (tensor.shape.size() >= 2) choices.weights += element_count(tensor.shape);
  if (is_gguf(output)) choices.other_bytes = bytes_beside_matrices(model, output);
  if (!target.size.empty())
    if (const std::uint64_t size = parse_size("--target-size", target.size); choices.other_bytes >= size)
      fail("--target-size ", size, ": tokenizer, names and norms alone take ", choices.other_bytes, " bytes");
  const std::vector<Ids> few(chunks.begin(), chunks.begin() + static_cast<std::ptrdiff_t>(std::min(kSensitivityChunks, chunks.size())));
  const std::vector<Type> allowed = allowed_types(target, output);
  if (target.sensitivities.empty()) {
    choices.sensitivities = measure_sensitivities(model, few, allowed);
    return choices;
  }
  const nlohmann::json key = sensitivity_key(model, few);
  if (!fs::exists(target.sensitivities)) {
    std::vector<Type> types = usual_types(output);  // so that the file serves other --types too
    for (const Type type : allowed)
      if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
    write_sensitivities(measure_sensitivities(model, few, types), key, target.sensitivities);
  }
  choices.sensitivities = read_sensitivities(target.sensitivities, key, model, allowed);
  return choices;
}

// Overrides leave nothing to choose, but take their bytes.
void settle(const std::vector<TypeOverride>& overrides, const Checkpoint& model, std::vector<Sensitivity>& sensitivities) {
  for (Sensitivity& entry : sensitivities) {
    const Tensor& tensor = model.at(entry.name);
    const std::optional<Type> type = overridden(overrides, entry.name, tensor.shape);
    if (!type) continue;
    Candidate only{*type, row_bytes(*type, static_cast<std::uint64_t>(tensor.columns())) * static_cast<std::uint64_t>(tensor.rows()), 0};
    for (const Candidate& known : entry.candidates)
      if (known.type == *type) only = known;
    entry.candidates = {only};
  }
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
  Choices choices = measured(target, model, output, chunks);
  settle(overrides, model, choices.sensitivities);
  return choices;
}

std::vector<Candidate> choose(const Target& target, const Choices& choices) {
  const std::uint64_t budget = target.bpw > 0 ? static_cast<std::uint64_t>(target.bpw / 8 * static_cast<double>(choices.weights))
                                              : parse_size("--target-size", target.size) - choices.other_bytes;
  const std::uint64_t smallest = bounds_of(choices.sensitivities).smallest;
  if (smallest > budget && target.bpw > 0)
    fail("--target-bpw ", target.bpw, ": the types allowed need at least ", std::ceil(100 * bits(choices, smallest)) / 100, "; give that, or smaller --types");
  if (smallest > budget)
    fail("--target-size ", target.size, ": the types allowed need at least ", smallest + choices.other_bytes, " bytes; give that, or smaller --types");
  return allocate(choices.sensitivities, budget);
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

void print_curve(const Choices& choices, const Chosen& chosen) {
  std::cout << std::fixed;
  for (std::size_t i = 0; i < chosen.trials.all.size(); ++i) {
    const Trial& trial = chosen.trials.all[i];
    std::cout << "trial " << i + 1 << ": " << total(trial.chosen).bytes + choices.other_bytes << " bytes, KL divergence expected "
              << std::setprecision(5) << trial.expected << " of rounding to nearest, measured " << chosen.measured[i].value << " +- "
              << chosen.measured[i].uncertainty << " on " << chosen.aside << " chunks kept aside\n";
  }
  std::cout << std::setw(13) << "bytes" << std::setw(13) << "bits/weight" << std::setw(13) << "expected KL"
            << (chosen.trials.all.empty() ? "  (of rounding to nearest; GPTQ lowers it)" : "  (scaled to what was measured)") << "\n";
  for (const CurvePoint& point : curve_points(choices, chosen))
    std::cout << std::setw(13) << point.total.bytes + choices.other_bytes << std::setw(13) << std::setprecision(2)
              << bits(choices, point.total.bytes) << std::setw(13) << std::setprecision(5) << point.total.cost * correction(chosen)
              << (point.chosen ? "  chosen" : "") << "\n";
}

nlohmann::json curve_json(const Choices& choices, const Chosen& chosen) {
  nlohmann::json curve = nlohmann::json::array(), trials = nlohmann::json::array();
  for (const CurvePoint& point : curve_points(choices, chosen))
    curve.push_back({{"bytes", point.total.bytes + choices.other_bytes},
                     {"bits_per_weight", bits(choices, point.total.bytes)},
                     {"expected_kl", point.total.cost * correction(chosen)},
                     {"chosen", point.chosen}});
  for (std::size_t i = 0; i < chosen.trials.all.size(); ++i)
    trials.push_back({{"bytes", total(chosen.trials.all[i].chosen).bytes + choices.other_bytes},
                      {"expected_kl", chosen.trials.all[i].expected},
                      {"measured_kl", chosen.measured[i].value},
                      {"uncertainty", chosen.measured[i].uncertainty},
                      {"chosen", i == chosen.trials.best}});
  nlohmann::json json = {{"curve", std::move(curve)}};
  if (!trials.empty()) json.update({{"trials", std::move(trials)}, {"chunks_kept_aside", chosen.aside}});
  return json;
}

}  // namespace attar::cli
