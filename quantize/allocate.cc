#include "quantize/allocate.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "convert/gguf_model.h"
#include "model/decoder.h"
#include "quantize/divergence.h"
#include "quantize/imatrix.h"
#include "quantize/presets.h"
#include "quantize/rtn.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr std::size_t kUnits = 20000;

std::vector<Type> fitting(const std::vector<Type>& types, std::int64_t columns) {
  std::vector<Type> result;
  for (const Type type : types)
    if (columns % info(type).block_weights == 0) result.push_back(type);
  return result;
}

// Whatever it takes.
std::vector<Candidate> least_cost(const std::vector<Sensitivity>& sensitivities) {
  std::vector<Candidate> result;
  for (const Sensitivity& entry : sensitivities)
    result.push_back(*std::min_element(entry.candidates.begin(), entry.candidates.end(),
                                       [](const Candidate& a, const Candidate& b) { return a.cost < b.cost; }));
  return result;
}

// What rounding moves the outputs by, up to a factor, if the inputs of different columns have nothing to do with each other.
double output_error(const at::Tensor& Q, const at::Tensor& W, const std::vector<float>& importance) {
  const at::Tensor squares = (Q - W).square_();
  return (importance.empty() ? squares.sum() : squares.sum(0).dot(at::from_blob(const_cast<float*>(importance.data()), {squares.size(1)}))).item<double>();
}

}  // namespace

std::vector<Sensitivity> measure_sensitivities(const Checkpoint& model, const std::vector<Ids>& chunks,
                                               const std::vector<Type>& types) {
  if (chunks.empty()) fail("allocation: needs calibration text");
  const at::NoGradGuard no_grad;
  const OneTorchThread one_thread;
  const auto original = load_decoder(model);
  DivergenceMeter divergence(*original, chunks, {0, static_cast<std::int64_t>(chunks.front().size())});
  std::size_t matrices = 0;
  for (const Tensor& tensor : model.tensors) matrices += tensor.shape.size() >= 2;
  Progress progress("sensitivity", matrices, "matrices");
  const ImportanceMatrix inputs = measure_imatrix(model, chunks);
  struct Probe {
    std::string name;  // of the matrix
    at::Tensor W;
    std::vector<float> importance;  // empty for a table, of whose inputs nothing is known
    Type type = Type::kQ4_0;
    double damage = 0, error = 0;
  } probe;
  const auto rounded = [&](const Tensor& tensor, Type type) { return decoded(rtn(type, tensor, probe.importance).Q); };
  return sensitivities_from(model, types, [&](const Tensor& tensor, Type type) {
    if (probe.name != tensor.name) {
      check_interrupt();
      const auto inputs_of = inputs.entries.find(gguf_tensor_name(tensor.name, model.config));
      probe = {tensor.name, read_tensor(tensor), {}, fitting_type(Type::kQ4_0, tensor.columns())};
      if (inputs_of != inputs.entries.end()) probe.importance = inputs_of->second.mean();
      const at::Tensor Q = rounded(tensor, probe.type);
      probe.damage = divergence.with(tensor.name, Q);
      probe.error = output_error(Q, probe.W, probe.importance);
      progress.advance(1, tensor.name);
    }
    if (type == probe.type) return probe.damage;
    return probe.error > 0 ? probe.damage * output_error(rounded(tensor, type), probe.W, probe.importance) / probe.error : 0.0;
  });
}

std::vector<Sensitivity> sensitivities_from(const Checkpoint& model, const std::vector<Type>& types,
                                            const std::function<double(const Tensor& matrix, Type type)>& cost) {
  std::vector<Sensitivity> result;
  for (const Tensor& tensor : model.tensors) {
    if (tensor.shape.size() < 2) continue;
    Sensitivity entry{tensor.name, {}};
    for (const Type type : fitting(types, tensor.columns()))
      entry.candidates.push_back({type, row_bytes(type, static_cast<std::uint64_t>(tensor.columns())) * static_cast<std::uint64_t>(tensor.rows()),
                                  cost(tensor, type)});
    if (entry.candidates.empty())
      fail("allocation: none of the types given fits ", tensor.name, " with its ", tensor.columns(), " columns; allow f16");
    std::stable_sort(entry.candidates.begin(), entry.candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.bytes < b.bytes; });
    result.push_back(std::move(entry));
  }
  return result;
}

Bounds bounds_of(const std::vector<Sensitivity>& sensitivities) {
  Bounds bounds;
  for (const Sensitivity& entry : sensitivities) {
    bounds.smallest += entry.candidates.front().bytes;
    bounds.largest += entry.candidates.back().bytes;
  }
  return bounds;
}

std::vector<Candidate> allocate(const std::vector<Sensitivity>& sensitivities, std::uint64_t budget) {
  const auto [smallest, largest] = bounds_of(sensitivities);
  if (smallest > budget)
    fail("allocation: the matrices need at least ", smallest, " bytes (", size_text(smallest), ") in the types allowed; ",
         budget, " are left for them: allow smaller types or a larger target");
  if (budget >= largest) return least_cost(sensitivities);
  // best[u]: the least cost of the matrices so far in at most u units; taken[i][u]: the candidate of matrix i.
  const std::uint64_t unit = std::max<std::uint64_t>(1, budget / kUnits);
  const std::size_t units = static_cast<std::size_t>(budget / unit);
  const auto size_of = [&](const Candidate& c) { return static_cast<std::size_t>((c.bytes + unit - 1) / unit); };
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::vector<double> best(units + 1, 0.0);
  std::vector<std::vector<std::uint8_t>> taken;
  for (const Sensitivity& entry : sensitivities) {
    std::vector<double> next(units + 1, kNever);
    std::vector<std::uint8_t>& choice = taken.emplace_back(units + 1);
    for (std::size_t c = 0; c < entry.candidates.size(); ++c) {
      const std::size_t size = size_of(entry.candidates[c]);
      for (std::size_t u = size; u <= units; ++u) {
        const double cost = best[u - size] + entry.candidates[c].cost;
        if (cost < next[u]) next[u] = cost, choice[u] = static_cast<std::uint8_t>(c);
      }
    }
    best = std::move(next);
  }
  std::size_t left = units;
  std::vector<Candidate> result(sensitivities.size());
  if (best[units] == kNever) {  // only the rounding of sizes is in the way: the budget is within it of the smallest
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = sensitivities[i].candidates.front();
    return result;
  }
  for (std::size_t i = sensitivities.size(); i-- > 0;) {
    result[i] = sensitivities[i].candidates[taken[i][left]];
    left -= size_of(result[i]);
  }
  return result;
}

std::vector<Candidate> allocate_for_cost(const std::vector<Sensitivity>& sensitivities, double cost) {
  const Bounds bounds = bounds_of(sensitivities);
  std::vector<Candidate> best = least_cost(sensitivities);
  std::uint64_t enough = total(best).bytes, little = bounds.smallest;
  if (total(best).cost > cost) return best;
  if (std::vector<Candidate> least = allocate(sensitivities, little); total(least).cost <= cost) return least;
  while (enough - little > bounds.largest / kUnits + 1) {
    const std::uint64_t middle = little + (enough - little) / 2;
    std::vector<Candidate> chosen = allocate(sensitivities, middle);
    if (total(chosen).cost > cost) {
      little = middle;
    } else {
      enough = middle;
      best = std::move(chosen);
    }
  }
  return best;
}

Total total(const std::vector<Candidate>& chosen) {
  Total sum;
  for (const Candidate& one : chosen) sum.bytes += one.bytes, sum.cost += one.cost;
  return sum;
}

std::vector<std::vector<Candidate>> cost_curve(const std::vector<Sensitivity>& sensitivities, int points) {
  const std::uint64_t smallest = bounds_of(sensitivities).smallest;
  const std::vector<Candidate> best = least_cost(sensitivities);
  const std::uint64_t range = total(best).bytes - smallest;
  std::vector<std::vector<Candidate>> curve;
  for (int i = 0; i < points; ++i) {
    const std::uint64_t step = range * static_cast<std::uint64_t>(i) / static_cast<std::uint64_t>(points - 1);
    std::vector<Candidate> one = i == points - 1 ? best : allocate(sensitivities, smallest + step);
    if (curve.empty() || total(one).cost < total(curve.back()).cost) curve.push_back(std::move(one));
  }
  return curve;
}

Trials allocate_for_measured(const std::vector<Sensitivity>& sensitivities, double target, double factor,
                             const std::function<double(const std::vector<Candidate>&)>& measure) {
  constexpr std::size_t kTrials = 4;
  constexpr double kNear = 0.96, kAim = 0.985;  // of the target
  Trials trials;
  std::vector<Trial>& all = trials.all;
  const auto bytes_of = [](const Trial& trial) { return total(trial.chosen).bytes; };
  const auto good = [&](const Trial& trial) { return trial.measured <= target; };
  const auto attempt = [&](std::vector<Candidate> chosen) {
    all.push_back({std::move(chosen), 0, 0});
    all.back().expected = total(all.back().chosen).cost;
    all.back().measured = measure(all.back().chosen);
    if (good(all.back()) && (!good(all[trials.best]) || bytes_of(all.back()) <= bytes_of(all[trials.best])))
      trials.best = all.size() - 1;
  };
  while (all.size() < kTrials) {
    double power = 1;  // measured = factor * expected^power
    if (all.size() >= 2) {
      const Trial &a = all[all.size() - 2], &b = all.back();
      const double slope = std::log(a.measured / b.measured) / std::log(a.expected / b.expected);
      if (std::isfinite(slope)) power = std::clamp(slope, 0.5, 2.0);
    }
    if (!all.empty()) factor = all.back().measured / std::pow(all.back().expected, power);
    std::vector<Candidate> chosen = allocate_for_cost(sensitivities, std::pow(kAim * target / factor, 1 / power));
    const auto same = [&, cost = total(chosen).cost](const Trial& trial) { return trial.expected == cost; };
    if (std::any_of(all.begin(), all.end(), same)) break;
    attempt(std::move(chosen));
    if (good(all.back()) && all.back().measured >= kNear * target) break;
  }
  const std::vector<Candidate> most = least_cost(sensitivities);
  if (!good(all[trials.best]) && total(most).cost < all.back().expected) attempt(most);
  if (const Trial& last = all.back(); !good(all[trials.best]))
    fail("allocation: a divergence of ", target, " is out of reach: the best of the types allowed measure ", last.measured, " in ",
         bytes_of(last), " bytes (", size_text(bytes_of(last)), "); allow larger types, give more calibration text, or ask for less");
  return trials;
}

}  // namespace attar
