#include "quantize/allocate.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <numeric>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/decoder.h"
#include "quantize/presets.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr std::size_t kUnits = 20000;

// Mean KL(original || changed) over all positions of the chunks; chunks run in parallel, each on one thread.
class Divergence {
 public:
  Divergence(Decoder& original, Decoder& changed, const std::vector<Ids>& chunks)
      : original_(original), changed_(changed), chunks_(chunks), hidden_(chunks.size()) {
    for_each_chunk([&](std::size_t i, Decoder& own, Decoder&) { hidden_[i] = own.hidden_states(ids(i)); });
  }

  double operator()() {
    std::vector<double> sums(chunks_.size());
    for_each_chunk([&](std::size_t i, Decoder& original, Decoder& changed) {
      const at::Tensor log_p = at::log_softmax(original.logits(hidden_[i]), -1);
      const at::Tensor log_q = at::log_softmax(changed.forward(ids(i)), -1);
      sums[i] = (log_p.exp() * (log_p - log_q)).sum(at::kDouble).item<double>();
    });
    const double sum = std::accumulate(sums.begin(), sums.end(), 0.0);
    return sum / static_cast<double>(chunks_.size() * chunks_.front().size());
  }

 private:
  at::Tensor ids(std::size_t chunk) const { return torch::tensor(chunks_[chunk]).unsqueeze(0); }

  void for_each_chunk(const std::function<void(std::size_t, Decoder& original, Decoder& changed)>& work) {
    const auto workers = std::min<std::int64_t>(thread_count(), static_cast<std::int64_t>(chunks_.size()));
    std::atomic<std::size_t> next{0};
    parallel_for(workers, [&](std::int64_t) {
      at::set_num_threads(1);  // this setting belongs to the thread
      const at::NoGradGuard no_grad;
      const auto original = share_weights(original_), changed = share_weights(changed_);
      for (std::size_t i = next++; i < chunks_.size(); i = next++) work(i, *original, *changed);
    });
  }

  Decoder &original_, &changed_;
  const std::vector<Ids>& chunks_;
  std::vector<at::Tensor> hidden_;  // of the original, before its output projection: logits would be too large to keep
};

std::vector<Type> fitting(const std::vector<Type>& types, std::int64_t columns) {
  std::vector<Type> result;
  for (const Type type : types)
    if (columns % info(type).block_weights == 0) result.push_back(type);
  return result;
}

}  // namespace

std::vector<Sensitivity> measure_sensitivities(const Checkpoint& model, const std::vector<Ids>& chunks,
                                               const std::vector<Type>& types) {
  if (chunks.empty()) fail("allocation: needs calibration text");
  const at::NoGradGuard no_grad;
  const OneTorchThread one_thread;
  const auto original = load_decoder(model), changed = share_weights(*original);
  Divergence divergence(*original, *changed, chunks);
  std::vector<Sensitivity> result;
  std::size_t matrices = 0;
  for (const Tensor& tensor : model.tensors) matrices += tensor.shape.size() >= 2;
  Progress progress("sensitivity", matrices, "matrices");
  for (const Tensor& tensor : model.tensors) {
    if (tensor.shape.size() < 2) continue;
    check_interrupt();
    const RtnResult probe = rtn(fitting_type(Type::kQ4_0, tensor.columns()), tensor);
    at::Tensor& W = changed->parameter(tensor.name);
    W.set_data(decoded(probe.Q));
    const double damage = std::max(0.0, divergence());
    W.set_data(original->parameter(tensor.name));
    Sensitivity entry{tensor.name, {}};
    for (const Type type : fitting(types, tensor.columns())) {
      const double error = type == probe.Q.type ? probe.weight_error : rtn(type, tensor).weight_error;
      entry.candidates.push_back({type, row_bytes(type, static_cast<std::uint64_t>(tensor.columns())) * static_cast<std::uint64_t>(tensor.rows()),
                                  probe.weight_error > 0 ? damage * error / probe.weight_error : 0.0});
    }
    if (entry.candidates.empty())
      fail("allocation: none of the types given fits ", tensor.name, " with its ", tensor.columns(), " columns; allow f16");
    std::stable_sort(entry.candidates.begin(), entry.candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.bytes < b.bytes; });
    result.push_back(std::move(entry));
    progress.advance(1, tensor.name);
  }
  return result;
}

std::vector<Candidate> allocate(const std::vector<Sensitivity>& sensitivities, std::uint64_t budget) {
  std::uint64_t smallest = 0, largest = 0;
  for (const Sensitivity& entry : sensitivities) {
    smallest += entry.candidates.front().bytes;
    largest += entry.candidates.back().bytes;
  }
  if (smallest > budget)
    fail("allocation: the matrices need at least ", smallest, " bytes (", size_text(smallest), ") in the types allowed; ",
         budget, " are left for them: allow smaller types or a larger target");
  budget = std::min(budget, largest + kUnits);  // a budget for everything would make the units coarse
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

}  // namespace attar
