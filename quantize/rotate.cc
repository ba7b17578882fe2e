// Row vectors, as everywhere: h (hidden) the residual stream, n(h) its RMS norm without weight g, W (out, in).
//   R1  n(h R1) = n(h) R1, so  E R1,  W diag(g) R1 for what reads a norm,  R1^T W for what adds to h
//   R2  a head's value v R2 leaves attention as a R2, so  R2^T W_v  and  W_o R2, head by head
#include "quantize/rotate.h"

#include <chrono>
#include <memory>

#include "base/console.h"
#include "base/threads.h"
#include "quantize/fold.h"
#include "quantize/learn_rotations.h"
#include "quantize/rotation.h"
#include "quantize/rtn.h"

namespace attar {
namespace {

using Clock = std::chrono::steady_clock;
using Shared = std::shared_ptr<const Rotation>;

class Rotator {
 public:
  explicit Rotator(const Checkpoint& model) : model_(model), result_(model), map_(layer_map(model.config)) {}

  // R2, of each key-value head. Biases of values pass through attention as values do: its weights sum to one.
  void rotate_values(std::int64_t layer, const std::vector<Shared>& R2) {
    const std::string at = cat("model.layers.", layer, ".");
    const std::int64_t head = model_.config.head_dim, shared = model_.config.heads / model_.config.kv_heads, first = map_.value_row;
    const auto turn = [=](std::span<float> values, std::int64_t columns) {
      for (std::size_t h = 0; h < R2.size(); ++h)
        R2[h]->apply_columns(values.subspan(static_cast<std::size_t>((first + static_cast<std::int64_t>(h) * head) * columns), static_cast<std::size_t>(head * columns)), columns);
    };
    Tensor& v = tensor_of(result_, at + map_.value + ".weight");
    v = whole_.add(v, [turn, columns = v.columns()](std::span<float> values) { turn(values, columns); });
    if (model_.config.qkv_bias) {
      Tensor& bias = tensor_of(result_, at + map_.value + ".bias");
      bias = edit_rows(bias, [turn](std::int64_t, std::span<float> values) { turn(values, 1); });
    }
    Tensor& o = tensor_of(result_, at + "self_attn.o_proj.weight");
    o = edit_rows(o, [R2, head, shared](std::int64_t, std::span<float> rows) {
      const std::int64_t heads = std::ssize(R2) * shared;
      parallel_for(std::ssize(rows) / (heads * head), [&](std::int64_t r) {
        for (std::int64_t h = 0; h < heads; ++h)
          R2[static_cast<std::size_t>(h / shared)]->apply_rows(rows.subspan(static_cast<std::size_t>((r * heads + h) * head), static_cast<std::size_t>(head)));
      });
    });
  }

  // R1. Before rotate_values: a matrix's rows are made one by one before they are mixed.
  void rotate_stream(const Shared& R1) {
    const auto turn_rows = [R1](std::int64_t, std::span<float> rows) { R1->apply_rows(rows); };
    Tensor& embedding = tensor_of(result_, "model.embed_tokens.weight");
    embedding = edit_rows(embedding, turn_rows);
    for (std::int64_t layer = 0; layer < model_.config.layers; ++layer) {
      const std::string at = cat("model.layers.", layer, ".");
      take_norm(at + map_.attention_norm + ".weight", at, map_.attention_inputs, R1);
      take_norm(at + map_.mlp_norm + ".weight", at, map_.mlp_inputs, R1);
    }
    take_norm("model.norm.weight", "", {"lm_head"}, R1);
  }
  void rotate_outputs(const Shared& R1) {
    for (std::int64_t layer = 0; layer < model_.config.layers; ++layer)
      for (const char* inner : {".self_attn.o_proj", ".mlp.down_proj"}) {
        const std::string name = cat("model.layers.", layer, inner);
        Tensor& W = tensor_of(result_, name + ".weight");
        W = whole_.add(W, [R1, columns = W.columns()](std::span<float> values) { R1->apply_columns(values, columns); });
        if (model_.find(name + ".bias") == nullptr) continue;
        Tensor& bias = tensor_of(result_, name + ".bias");
        bias = edit_rows(bias, [R1](std::int64_t, std::span<float> values) { R1->apply_rows(values); });
      }
  }

  const Checkpoint& result() const { return result_; }

 private:
  // The norm's weight moves into the linears that read it.
  void take_norm(const std::string& norm_name, const std::string& at, const std::vector<std::string>& readers, const Shared& R1) {
    Tensor& norm = tensor_of(result_, norm_name);
    auto g = std::make_shared<std::vector<float>>(read_floats(norm));
    const float none = model_.config.norm_adds_one ? 0.0f : 1.0f;
    if (model_.config.norm_adds_one)
      for (float& value : *g) value += 1.0f;
    norm = make_tensor(norm_name, norm.shape, std::vector<float>(g->size(), none));
    for (const std::string& reader : readers) {
      Tensor& W = tensor_of(result_, at + reader + ".weight");
      W = edit_rows(W, [g, R1](std::int64_t, std::span<float> rows) {
        for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= (*g)[i % g->size()];
        R1->apply_rows(rows);
      });
    }
  }

  const Checkpoint& model_;
  Checkpoint result_;
  LayerMap map_;
  WholeEdits whole_;
};

// What was learned is empty, or stands behind the random rotations.
Checkpoint rotated_by(const Checkpoint& model, std::uint64_t seed, bool stream, const LearnedRotations& learned) {
  const ModelConfig& config = model.config;
  const auto values = [](const at::Tensor& D) { return std::vector<double>(D.data_ptr<double>(), D.data_ptr<double>() + D.numel()); };
  Rotator rotator(model);
  const auto R1 = std::make_shared<Rotation>(stream ? config.hidden_size : 1, seed, learned.stream.defined() ? values(learned.stream) : std::vector<double>());
  if (stream) rotator.rotate_stream(R1);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    std::vector<Shared> R2;
    for (std::int64_t h = 0; h < config.kv_heads; ++h)
      R2.push_back(std::make_shared<Rotation>(config.head_dim, seed + 1 + static_cast<std::uint64_t>(layer),
                                              learned.heads.empty() ? std::vector<double>() : values(learned.heads[static_cast<std::size_t>(layer)].select(0, h))));
    rotator.rotate_values(layer, R2);
  }
  if (stream) rotator.rotate_outputs(R1);
  return rotator.result();
}

double mean_error(const Checkpoint& model, const std::vector<TensorPlan>& plan) {
  double sum = 0;
  for (const TensorPlan& entry : plan) sum += rtn(entry.got, model.at(entry.name)).weight_error;
  return plan.empty() ? 0.0 : sum / static_cast<double>(plan.size());
}

}  // namespace

std::string stream_obstacle(const ModelConfig& config) {
  if (config.post_norms)
    return "the weights of the norms behind attention and MLP stand between their matrices and the residual stream";
  if (config.tied_embeddings)
    return "embedding and output head are one matrix, and only the head could take over the weight of the last norm";
  return {};
}

Checkpoint rotate(const Checkpoint& model, const QuantizeOptions& options, RotateReport& report) {
  const auto start = Clock::now();
  report = {stream_obstacle(model.config)};
  const bool stream = report.left_out.empty();
  Checkpoint result = rotated_by(model, options.seed, stream, {});
  if (!options.calibration.empty()) {
    const LearnedRotations learned = learn_rotations(result, options, stream);
    report.random_error = learned.error_before, report.learned_error = learned.error_after;
    result = rotated_by(model, options.seed, stream, learned);
  }
  std::vector<TensorPlan> rotated = plan_types(model, options.plan);
  std::erase_if(rotated, [&](const TensorPlan& entry) {
    return !info(entry.got).quantized || entry.layer < 0 ||
           (!stream && entry.role != Role::kValue && entry.role != Role::kQkv && entry.role != Role::kAttentionOutput);
  });
  report.error_before = mean_error(model, rotated);
  report.error_after = mean_error(result, rotated);
  report.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return result;
}

nlohmann::json to_json(const RotateReport& report) {
  nlohmann::json json = {{"residual_stream", report.left_out.empty()},
                         {"weight_error_before", report.error_before},
                         {"weight_error_after", report.error_after},
                         {"seconds", report.seconds}};
  if (!report.left_out.empty()) json["left_out"] = report.left_out;
  if (report.learned_error >= 0) json.update({{"random_output_error", report.random_error}, {"learned_output_error", report.learned_error}});
  return json;
}

}  // namespace attar
