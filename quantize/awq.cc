// Symbols, after the paper:
//   W    (rows, columns)  weights; Q(.) rounds to the type's grid; X (tokens, columns) inputs, H = X^T X
//   s_X  (columns)        size of the inputs: here their root mean square (the paper: the mean of |x|)
//   s    (columns)        s_X^a; Q(W diag(s)) meets diag(s)^-1 x                                           (equation 4)
//   a                     the exponent, argmin |Q(W diag(s)) diag(s)^-1 X^T - W X^T|^2 on a grid            (equation 5)
#include "quantize/awq.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <optional>

#include "base/console.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/tensor.h"
#include "quantize/fold.h"
#include "quantize/report.h"
#include "quantize/shared_inputs.h"
#include "quantize/streams.h"
#include "quantize/tensors.h"
#include "quantize/work_folder.h"

namespace attar {
namespace {

using Clock = std::chrono::steady_clock;
using Scales = std::shared_ptr<const std::vector<float>>;

constexpr int kExponents = 20;        // as in the paper's code: 0, 0.05, ... 0.95
constexpr std::int64_t kTileRows = 64;

// sum over rows e of E of e H e^T; tiles and their sum do not depend on the threads.
double energy(const at::Tensor& E, const at::Tensor& H) {
  const std::int64_t rows = E.size(0);
  std::vector<double> sums(static_cast<std::size_t>((rows + kTileRows - 1) / kTileRows));
  parallel_for(static_cast<std::int64_t>(sums.size()), [&](std::int64_t tile) {
    const at::NoGradGuard no_grad;
    const at::Tensor e = E.narrow(0, tile * kTileRows, std::min(kTileRows, rows - tile * kTileRows));
    sums[static_cast<std::size_t>(tile)] = (at::mm(e, H) * e).sum(at::kDouble).item<double>();
  });
  double sum = 0;
  for (const double one : sums) sum += one;
  return sum;
}

double rounding_error(const ScaledGroup& group, const at::Tensor& s, const at::Tensor& mean_squares) {
  const at::Tensor importance = mean_squares / s.square();
  double sum = 0;
  for (std::size_t i = 0; i < group.W.size(); ++i) {
    const at::Tensor W = (group.W[i] * s).contiguous();
    const QuantizedTensor Q = rtn(group.types[i], {W.data_ptr<float>(), static_cast<std::size_t>(W.numel())}, W.size(0), W.size(1),
                                  {importance.data_ptr<float>(), static_cast<std::size_t>(importance.numel())}, "a scaled matrix");
    sum += energy(decoded(Q) / s - group.W[i], group.H);
  }
  return sum;
}

// What makes the inputs of a group; names within the layer.
struct Feeder {
  std::string norm;                        // a norm,
  std::string linear;                      // or rows of a linear, from `row` on
  std::int64_t row = 0;
  std::vector<std::int64_t> scale_of;      // as in ScaledGroup
};

std::vector<std::int64_t> each(std::int64_t columns) {
  std::vector<std::int64_t> scale_of(static_cast<std::size_t>(columns));
  for (std::int64_t j = 0; j < columns; ++j) scale_of[static_cast<std::size_t>(j)] = j;
  return scale_of;
}

Feeder feeder_of(Role role, const ModelConfig& c) {
  const LayerMap map = layer_map(c);
  switch (input_of(role)) {
    case 0: return {map.attention_norm, {}, 0, each(c.hidden_size)};
    case 1: {  // heads of queries that share a head of values share its scales
      Feeder feeder{{}, map.value, map.value_row, each(c.heads * c.head_dim)};
      for (std::int64_t& scale : feeder.scale_of) {
        const std::int64_t head = scale / c.head_dim / (c.heads / c.kv_heads);
        scale = head * c.head_dim + scale % c.head_dim;
      }
      return feeder;
    }
    case 2: return {map.mlp_norm, {}, 0, each(c.hidden_size)};
    default: return {{}, map.up, map.up_row, each(c.intermediate_size)};
  }
}

// Folds s into a group of matrices and, as 1 / s, into what feeds it.
void fold(Checkpoint& model, const std::string& layer, const std::vector<std::string>& names, const Feeder& feeder, const Scales& s) {
  for (const std::string& name : names) {
    Tensor& W = tensor_of(model, name);
    W = edit_rows(W, [s, scale_of = feeder.scale_of](std::int64_t, std::span<float> rows) {
      for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= (*s)[static_cast<std::size_t>(scale_of[i % scale_of.size()])];
    });
  }
  if (!feeder.norm.empty()) {
    Tensor& norm = tensor_of(model, layer + feeder.norm + ".weight");
    std::vector<float> g = read_floats(norm);
    const float added = model.config.norm_adds_one ? 1.0f : 0.0f;
    for (std::size_t j = 0; j < g.size(); ++j) g[j] = (added + g[j]) / (*s)[j] - added;
    norm = make_tensor(norm.name, norm.shape, std::move(g));
    return;
  }
  // A matrix's rows, or a bias's one row of all.
  const auto divide = [s, from = feeder.row](std::int64_t first, std::span<float> values, std::int64_t columns) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::int64_t scale = first + static_cast<std::int64_t>(i) / columns - from;
      if (scale >= 0 && scale < static_cast<std::int64_t>(s->size())) values[i] /= (*s)[static_cast<std::size_t>(scale)];
    }
  };
  Tensor& W = tensor_of(model, layer + feeder.linear + ".weight");
  W = edit_rows(W, [divide, columns = W.columns()](std::int64_t first, std::span<float> rows) { divide(first, rows, columns); });
  if (model.find(layer + feeder.linear + ".bias") == nullptr) return;
  Tensor& bias = tensor_of(model, layer + feeder.linear + ".bias");
  bias = edit_rows(bias, [divide](std::int64_t, std::span<float> values) { divide(0, values, 1); });
}

class Scaler {
 public:
  Scaler(const Checkpoint& model, const QuantizeOptions& options, AwqReport& report)
      : model_(model), options_(options), report_(report), result_(model), folder_(awq_folder(options)),
        streams_(model, options.calibration, {.folder = folder_}) {
    for (TensorPlan& entry : plan_types(model, options.plan)) plan_.emplace(entry.name, std::move(entry));
    if (!folder_.empty()) work_.emplace(folder_, run_identity(model, options), options.resume);
  }

  Checkpoint run() {
    const std::int64_t layers = model_.config.layers;
    Progress progress("awq", static_cast<std::size_t>(layers), "layers");
    std::string sealed;  // hash of the hidden states behind the last layer that was restored
    std::int64_t layer = 0;
    for (; restore(layer, sealed); ++layer) progress.skip(1);
    if (layer == 0) streams_.start(model_.at("model.embed_tokens.weight"));
    else if (layer < layers) streams_.resume(layer, sealed);
    for (; layer < layers; ++layer) {
      for (const Half half : {Half::kAttention, Half::kMlp}) scale(layer, half);
      finish(layer);
      progress.advance(1);
    }
    std::error_code ignored;
    if (work_)
      for (const auto& entry : fs::directory_iterator(folder_, ignored))
        if (entry.path().filename().string().starts_with("hidden-")) fs::remove(entry.path(), ignored);
    return std::move(result_);
  }

 private:
  struct Folded {
    AwqReport::Entry entry;
    std::vector<float> s;
  };

  void scale(std::int64_t layer, Half half) {
    streams_.enter(layer, half);
    for (const auto& together : sharing_inputs(streams_.linear_weights(), [&](const std::string& name) { return plan_.at(name).role; })) {
      ScaledGroup group{{}, {}, {}, static_cast<double>(options_.calibration.size() * options_.calibration.front().size()), feeder(together).scale_of};
      for (const std::string& name : together) {
        if (!info(plan_.at(name).got).quantized) continue;
        group.W.push_back(streams_.weight(name));
        group.types.push_back(plan_.at(name).got);
      }
      if (group.W.empty()) continue;
      group.H = streams_.input_sums(together.front()).XtX;
      Scaling scaling = search_scaling(group);
      Folded folded{{together, scaling.exponent, scaling.error_before, scaling.error}, std::move(scaling.s)};
      take(layer, folded);
      if (work_) fresh_.push_back(std::move(folded));
    }
    streams_.leave();
  }

  Feeder feeder(const std::vector<std::string>& together) const { return feeder_of(plan_.at(together.front()).role, model_.config); }

  void take(std::int64_t layer, const Folded& folded) {
    fold(result_, cat("model.layers.", layer, "."), folded.entry.names, feeder(folded.entry.names), std::make_shared<std::vector<float>>(folded.s));
    report_.groups.push_back(folded.entry);
  }

  static std::string part_of(std::int64_t layer) { return cat("scales-", layer); }
  void finish(std::int64_t layer) {
    if (!work_) return;
    std::map<std::string, QuantizedTensor> scales;
    nlohmann::json groups = nlohmann::json::array();
    for (const auto& [entry, s] : fresh_) {
      scales.emplace(entry.names.front(), kept_floats({1, std::ssize(s)}, s));
      groups.push_back({{"names", entry.names}, {"exponent", entry.exponent}, {"before", entry.error_before}, {"after", entry.error_after}});
    }
    fresh_.clear();
    work_->store(part_of(layer), scales, {{"groups", std::move(groups)}, {"hidden", streams_.seal()}});
  }
  // Takes what an earlier run has made of the layer, if it has.
  bool restore(std::int64_t layer, std::string& sealed) {
    const auto part = work_ ? work_->find(part_of(layer)) : std::nullopt;
    if (!part) return false;
    std::map<std::string, std::vector<float>> scales;
    for (const Tensor& tensor : part->tensors) scales.emplace(tensor.name, read_floats(tensor));
    for (const nlohmann::json& group : part->notes.at("groups")) {
      const std::vector<std::string> names = group.at("names");
      take(layer, {{names, group.at("exponent"), group.at("before"), group.at("after")}, std::move(scales.at(names.front()))});
    }
    sealed = part->notes.at("hidden");
    return true;
  }

  const Checkpoint& model_;
  const QuantizeOptions& options_;
  AwqReport& report_;
  Checkpoint result_;
  fs::path folder_;
  Streams streams_;
  std::map<std::string, TensorPlan> plan_;
  std::optional<WorkFolder> work_;
  std::vector<Folded> fresh_;  // of the layer being worked on
};

}  // namespace

fs::path awq_folder(const QuantizeOptions& options) { return options.folder.empty() ? fs::path() : fs::path(options.folder.string() + ".awq"); }

Scaling search_scaling(const ScaledGroup& group) {
  const at::NoGradGuard no_grad;
  const auto scales = *std::max_element(group.scale_of.begin(), group.scale_of.end()) + 1;
  const at::Tensor index = tensor_of(group.scale_of), mean_squares = (group.H.diagonal() / group.tokens).contiguous();
  const at::Tensor shares = at::zeros({scales}).index_add_(0, index, at::ones({index.numel()}));
  const at::Tensor size = (at::zeros({scales}).index_add_(0, index, mean_squares) / shares).sqrt_();
  const float largest = size.max().item<float>();
  Scaling best{std::vector<float>(static_cast<std::size_t>(scales), 1.0f)};
  if (!(largest > 0)) return best;
  double whole = 0;
  for (const at::Tensor& W : group.W) whole += energy(W, group.H);
  for (int step = 0; step < kExponents; ++step) {
    check_interrupt();
    const double exponent = static_cast<double>(step) / kExponents;
    at::Tensor s = size.clamp_min(1e-4f * largest).pow(exponent);
    s /= (s.max() * s.min()).sqrt();
    const double error = rounding_error(group, s.index_select(0, index), mean_squares) / whole;
    if (step == 0) best.error_before = best.error = error;
    if (!(error < best.error)) continue;
    best.error = error;
    best.exponent = exponent;
    best.s.assign(s.data_ptr<float>(), s.data_ptr<float>() + s.numel());
  }
  return best;
}

Checkpoint awq(const Checkpoint& model, const QuantizeOptions& options, AwqReport& report) {
  const auto start = Clock::now();
  const OneTorchThread one_thread;
  const at::NoGradGuard no_grad;
  report = {};
  Checkpoint scaled = Scaler(model, options, report).run();
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return scaled;
}

double AwqReport::mean(double Entry::*error) const {
  double sum = 0;
  for (const Entry& group : groups) sum += group.*error / static_cast<double>(groups.size());
  return sum;
}

nlohmann::json to_json(const AwqReport& report) {
  nlohmann::json groups = nlohmann::json::array();
  for (const AwqReport::Entry& group : report.groups)
    groups.push_back({{"names", group.names}, {"exponent", group.exponent}, {"output_error_before", group.error_before},
                      {"output_error_after", group.error_after}});
  return {{"groups", std::move(groups)}, {"output_error_before", report.mean(&AwqReport::Entry::error_before)},
          {"output_error_after", report.mean(&AwqReport::Entry::error_after)}, {"seconds", report.seconds}};
}

}  // namespace attar
