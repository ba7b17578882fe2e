// Symbols:
//   W    (rows, columns) a matrix, H = X^T X of its inputs X, s = tr W H W^T
//   L,R  what mixes its rows and its columns: R1 where it writes to or reads the residual stream, R2 head by head where it makes or reads
//        values, else nothing
//   Q    of L^T W R, rounded to nearest; it stands for L Q R^T
//   E    = L Q R^T - W, so that the loss of the matrix is F = tr E H E^T / s, and, Q taken for a constant,
//          dF/dR = 2/s (E H)^T (L Q),   dF/dL = 2/s (E H) (Q R^T)^T
//   S    = R^T G - (R^T G)^T for a gradient G: along it R stays orthogonal; Adam makes it A, of any size but skew as well
//   R <- R (I - X/2)^-1 (I + X/2), X = -rate A: the Cayley transform
#include "quantize/learn_rotations.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <string>

#include "base/console.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/tensor.h"
#include "quantize/fold.h"
#include "quantize/products.h"
#include "quantize/report.h"
#include "quantize/shared_inputs.h"
#include "quantize/streams.h"
#include "quantize/tensors.h"
#include "quantize/work_folder.h"

namespace attar {
namespace {

constexpr std::size_t kPasses = 60;  // over the layers, each a step
constexpr double kRate = 0.07;       // of an entry of X, times sqrt(n); falls to nothing along the way
constexpr double kMean = 0.9, kSquare = 0.99, kTiny = 1e-12;  // Adam's; the last of squares
constexpr const char* kPart = "rotations";
constexpr int kInputs = 4;  // of a layer: input_of()

enum class Side { kNone, kStream, kHeads };

struct Part {
  std::string name;  // rows [first, first + rows) of this matrix
  Type type;
  std::int64_t first, rows;
  int input;
  Side left, right;
  double energy = -1;  // s, once H is known
};

struct Gradients {
  at::Tensor stream, heads;  // as RotationSteps::step takes them
};

// M B, B of blocks on the diagonal: each key-value head's for all the heads that share it.
at::Tensor times_heads(const at::Tensor& M, const at::Tensor& R2, bool transposed) {
  const std::int64_t d = R2.size(1), heads = M.size(1) / d, shared = heads / R2.size(0);
  at::Tensor result = at::empty({M.size(0), M.size(1)});
  parallel_for(heads, [&](std::int64_t h) {
    const at::NoGradGuard no_grad;
    const at::Tensor R = R2.select(0, h / shared);
    result.narrow(1, h * d, d).copy_(at::mm(M.narrow(1, h * d, d), transposed ? R.t() : R));
  });
  return result;
}

class Learner {
 public:
  Learner(const Checkpoint& model, const QuantizeOptions& options, bool stream)
      : model_(model), options_(options), folder_(learned_folder(options)), stream_(stream ? 1 : 0, stream ? model.config.hidden_size : 1) {
    const ModelConfig& config = model.config;
    for (std::int64_t layer = 0; layer < config.layers; ++layer) heads_.emplace_back(config.kv_heads, config.head_dim);
    layers_.resize(static_cast<std::size_t>(config.layers));
    for (const TensorPlan& entry : plan_types(model, options.plan)) {
      roles_.emplace(entry.name, entry.role);
      if (entry.layer >= 0 && info(entry.got).quantized) add_parts(entry, stream);
    }
    if (!folder_.empty()) work_.emplace(folder_, run_identity(model, options), options.resume);
  }

  LearnedRotations run() {
    if (const auto part = work_ ? work_->find(kPart) : std::nullopt) return restored(*part);
    sum_inputs();
    LearnedRotations result;
    result.error_before = error();
    take_steps();
    result.error_after = error();
    const bool better = result.error_after < result.error_before;
    if (!better) result.error_after = result.error_before;
    const auto kept = [&](const RotationSteps& steps) { return (better ? steps.R() : at::eye(steps.R().size(1)).repeat({steps.R().size(0), 1, 1})).to(at::kFloat); };
    std::map<std::string, at::Tensor> found;
    if (stream_.R().size(0) > 0) found.emplace("stream", kept(stream_));
    for (std::size_t layer = 0; layer < heads_.size(); ++layer) found.emplace(cat("heads-", layer), kept(heads_[layer]));
    if (work_) {
      std::map<std::string, QuantizedTensor> stored;
      for (const auto& [name, R] : found) stored.emplace(name, kept_floats(R.sizes().vec(), {R.data_ptr<float>(), static_cast<std::size_t>(R.numel())}));
      work_->store(kPart, stored, {{"before", result.error_before}, {"after", result.error_after}});
    }
    return of(found, result);
  }

 private:
  void add_parts(const TensorPlan& entry, bool stream) {
    const Side R1 = stream ? Side::kStream : Side::kNone;
    std::vector<Part>& parts = layers_[static_cast<std::size_t>(entry.layer)];
    const auto add = [&](std::int64_t first, std::int64_t rows, Side left, Side right) {
      if (left != Side::kNone || right != Side::kNone) parts.push_back({entry.name, entry.got, first, rows, input_of(entry.role), left, right});
    };
    const std::int64_t rows = entry.shape.front(), values = layer_map(model_.config).value_row;
    switch (entry.role) {
      case Role::kValue: return add(0, rows, Side::kHeads, R1);
      case Role::kQkv: return add(0, values, Side::kNone, R1), add(values, rows - values, Side::kHeads, R1);
      case Role::kAttentionOutput: return add(0, rows, R1, Side::kHeads);
      case Role::kDown: return add(0, rows, R1, Side::kNone);
      default: return add(0, rows, Side::kNone, R1);
    }
  }

  // ---- X^T X, in a file
  std::int64_t input_size(int input) const {
    const ModelConfig& c = model_.config;
    return input == 1 ? c.heads * c.head_dim : input == 3 ? c.intermediate_size : c.hidden_size;
  }
  std::uint64_t input_bytes(int input) const { return static_cast<std::uint64_t>(input_size(input) * input_size(input)) * sizeof(float); }
  std::uint64_t place_of(std::size_t layer, int input) const {
    std::uint64_t before = 0, all = 0;
    for (int i = 0; i < kInputs; ++i) (i < input ? before : all) += input_bytes(i);
    return layer * (all + before) + before;
  }
  bool meets(std::size_t layer, int input) const {
    return std::any_of(layers_[layer].begin(), layers_[layer].end(), [&](const Part& part) { return part.input == input; });
  }
  void sum_inputs() {
    sums_ = folder_.empty() ? std::make_shared<ScratchFile>() : std::make_shared<ScratchFile>(folder_ / "inputs");
    if (!folder_.empty()) fs::remove(folder_ / "inputs");  // gone with the program
    Streams streams(model_, options_.calibration, {.spill = folder_});
    Progress progress("rotate: inputs", layers_.size(), "layers");
    streams.start(model_.at("model.embed_tokens.weight"));
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
      for (const Half half : {Half::kAttention, Half::kMlp}) {
        streams.enter(static_cast<std::int64_t>(layer), half);
        for (const auto& together : sharing_inputs(streams.linear_weights(), [&](const std::string& name) { return roles_.at(name); })) {
          const int input = input_of(roles_.at(together.front()));
          if (!meets(layer, input)) continue;
          const at::Tensor H = streams.input_sums(together.front()).XtX.contiguous();
          sums_->write(place_of(layer, input), {static_cast<const std::byte*>(H.data_ptr()), input_bytes(input)});
        }
        streams.leave();
      }
      progress.advance(1);
    }
  }
  at::Tensor inputs(std::size_t layer, int input) const {
    at::Tensor H = at::empty({input_size(input), input_size(input)});
    sums_->read(place_of(layer, input), {static_cast<std::byte*>(H.data_ptr()), input_bytes(input)});
    return H;
  }

  // ---- The loss
  // M R or M R^T
  at::Tensor times(Side side, const at::Tensor& M, bool transposed) const {
    if (side == Side::kNone) return M;
    if (side == Side::kHeads) return times_heads(M, R2_, transposed);
    return product(M, transposed ? R1_.t() : R1_);
  }
  // G of the side is 2/s A^T B
  void add_gradient(Side side, const at::Tensor& A, const at::Tensor& B, double factor, Gradients& gradients) const {
    if (side == Side::kStream) gradients.stream.select(0, 0).add_(product(A.t(), B), factor);
    if (side != Side::kHeads) return;
    const std::int64_t d = R2_.size(1), heads = A.size(1) / d, shared = heads / R2_.size(0);
    parallel_for(R2_.size(0), [&](std::int64_t h) {
      const at::NoGradGuard no_grad;
      for (std::int64_t at = h * shared * d; at < (h + 1) * shared * d; at += d)
        gradients.heads.select(0, h).add_(at::mm(A.narrow(1, at, d).t(), B.narrow(1, at, d)), factor);
    });
  }

  double loss(Part& part, const at::Tensor& H, Gradients* gradients) const {
    const Tensor& whole = model_.at(part.name);
    const std::vector<float> read = read_floats(whole, part.first, part.first + part.rows);
    const at::Tensor W = at::from_blob(const_cast<float*>(read.data()), {part.rows, whole.columns()});
    if (part.energy < 0) part.energy = (product(W, H) * W).sum(at::kDouble).item<double>();
    const double s = part.energy;
    if (!(s > 0)) return 0;
    const at::Tensor Q = rounded(part, times(part.left, times(part.right, W, false).t(), false).t().contiguous());
    const at::Tensor LQ = times(part.left, Q.t(), true).t(), E = times(part.right, LQ, true) - W, EH = product(E, H);
    if (gradients != nullptr) {
      add_gradient(part.right, EH, LQ, 2 / s, *gradients);
      add_gradient(part.left, EH.t(), times(part.right, Q, true).t(), 2 / s, *gradients);
    }
    return (EH * E).sum(at::kDouble).item<double>() / s;
  }
  static at::Tensor rounded(const Part& part, const at::Tensor& V) {
    return decoded(rtn(part.type, {V.data_ptr<float>(), static_cast<std::size_t>(V.numel())}, V.size(0), V.size(1), {}, part.name));
  }

  double visit(std::size_t layer, Gradients* gradients) {
    check_interrupt();
    if (stream_.R().size(0) > 0) R1_ = stream_.R().select(0, 0).to(at::kFloat);
    R2_ = heads_[layer].R().to(at::kFloat);
    double sum = 0;
    for (int input = 0; input < kInputs; ++input) {
      if (!meets(layer, input)) continue;
      const at::Tensor H = inputs(layer, input);
      for (Part& part : layers_[layer])
        if (part.input == input) sum += loss(part, H, gradients);
    }
    return sum;
  }

  double error() {
    double sum = 0, count = 0;
    for (std::size_t layer = 0; layer < layers_.size(); ++layer) sum += visit(layer, nullptr), count += static_cast<double>(layers_[layer].size());
    return count > 0 ? sum / count : 0;
  }

  // A layer a step, in an order of its own in each pass.
  void take_steps() {
    Random random(options_.seed);
    const std::size_t steps = kPasses * layers_.size();
    Progress progress("rotate", steps, "steps");
    std::vector<std::size_t> order(layers_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    double done = 0;
    for (std::size_t pass = 0; pass < kPasses; ++pass) {
      random.shuffle(order);
      for (const std::size_t layer : order) {
        Gradients gradients{at::zeros_like(stream_.R(), at::kFloat), at::zeros_like(heads_[layer].R(), at::kFloat)};
        visit(layer, &gradients);
        const double share = 1 - done++ / static_cast<double>(steps);
        stream_.step(gradients.stream, share);
        heads_[layer].step(gradients.heads, share);
        progress.advance(1);
      }
    }
  }

  // ---- What is kept: float32, made as orthogonal as float64 can be (Newton and Schulz's iteration, which doubles the digits each time).
  static at::Tensor orthogonal(at::Tensor R) {
    R = R.to(at::kDouble);
    const at::Tensor I = at::eye(R.size(-1), at::kDouble);
    for (int turn = 0; turn < 2; ++turn) R = at::matmul(R, 1.5 * I - 0.5 * at::matmul(R.transpose(-1, -2), R));
    return R;
  }
  LearnedRotations of(const std::map<std::string, at::Tensor>& found, LearnedRotations result) const {
    if (const auto stream = found.find("stream"); stream != found.end()) result.stream = orthogonal(stream->second).select(0, 0).contiguous();
    for (std::size_t layer = 0; layer < heads_.size(); ++layer) result.heads.push_back(orthogonal(found.at(cat("heads-", layer))).contiguous());
    return result;
  }
  LearnedRotations restored(const WorkFolder::Part& part) const {
    std::map<std::string, at::Tensor> found;
    for (const Tensor& tensor : part.tensors) found.emplace(tensor.name, read_tensor(tensor));
    LearnedRotations result;
    result.error_before = part.notes.at("before");
    result.error_after = part.notes.at("after");
    return of(found, result);
  }

  const Checkpoint& model_;
  const QuantizeOptions& options_;
  fs::path folder_;
  RotationSteps stream_;              // one, or none
  std::vector<RotationSteps> heads_;  // of each layer
  std::vector<std::vector<Part>> layers_;
  std::map<std::string, Role> roles_;
  std::optional<WorkFolder> work_;
  std::shared_ptr<ScratchFile> sums_;
  at::Tensor R1_, R2_;  // of the visit, float32
};

}  // namespace

RotationSteps::RotationSteps(std::int64_t count, std::int64_t n)
    : R_(at::eye(n, at::kDouble).repeat({count, 1, 1})), mean_(at::zeros_like(R_)), square_(at::zeros_like(R_)) {}

void RotationSteps::step(const at::Tensor& gradient, double share) {
  if (R_.numel() == 0) return;
  const std::int64_t n = R_.size(-1);
  const at::Tensor T = at::matmul(R_.transpose(-1, -2), gradient.to(at::kDouble)), S = T - T.transpose(-1, -2), I = at::eye(n, at::kDouble);
  ++steps_;
  mean_.mul_(kMean).add_(S, 1 - kMean);
  square_.mul_(kSquare).add_(S.square(), 1 - kSquare);
  const at::Tensor A = mean_ / (1 - std::pow(kMean, steps_)) / ((square_ / (1 - std::pow(kSquare, steps_))).sqrt() + kTiny);
  const at::Tensor X = A * (-share * kRate / std::sqrt(static_cast<double>(n)));
  R_ = at::matmul(R_, at::linalg_solve(I - 0.5 * X, I + 0.5 * X));
}

fs::path learned_folder(const QuantizeOptions& options) { return options.folder.empty() ? fs::path() : fs::path(options.folder.string() + ".rotate"); }

LearnedRotations learn_rotations(const Checkpoint& model, const QuantizeOptions& options, bool stream) {
  const OneTorchThread one_thread;
  const at::NoGradGuard no_grad;
  return Learner(model, options, stream).run();
}

}  // namespace attar
