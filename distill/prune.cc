#include "distill/prune.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "convert/vocabulary.h"

namespace attar {
namespace {

using Index = std::vector<std::int64_t>;

Index everything(std::int64_t count) {
  Index all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), std::int64_t{0});
  return all;
}

// The `count` candidates of the highest score, in ascending order; of equals the first.
Index keep_best(Index candidates, const std::vector<double>& score, std::int64_t count) {
  std::stable_sort(candidates.begin(), candidates.end(), [&](std::int64_t a, std::int64_t b) {
    return score[static_cast<std::size_t>(a)] > score[static_cast<std::size_t>(b)];
  });
  candidates.resize(static_cast<std::size_t>(count));
  std::sort(candidates.begin(), candidates.end());
  return candidates;
}

void choose_heads(const ModelConfig& c, const std::vector<double>& score, std::int64_t heads, std::int64_t kv_heads, PrunePlan::Layer& layer) {
  if (c.heads == c.kv_heads) {
    layer.heads = keep_best(everything(c.heads), score, heads);
    layer.kv_heads = layer.heads;
    return;
  }
  const std::int64_t group = c.heads / c.kv_heads;
  std::vector<double> energy(static_cast<std::size_t>(c.kv_heads), 0.0);
  for (std::int64_t h = 0; h < c.heads; ++h)
    energy[static_cast<std::size_t>(h / group)] += score[static_cast<std::size_t>(h)] * score[static_cast<std::size_t>(h)];
  layer.kv_heads = keep_best(everything(c.kv_heads), energy, kv_heads);
  for (const auto g : layer.kv_heads) {
    Index members = everything(group);
    for (auto& member : members) member += g * group;
    const Index kept = keep_best(std::move(members), score, heads / kv_heads);
    layer.heads.insert(layer.heads.end(), kept.begin(), kept.end());
  }
}

double norm_scale(const std::vector<double>& energy, const Index& kept) {
  if (kept.size() == energy.size()) return 1.0;
  double sum = 0;
  for (const auto i : kept) sum += energy[static_cast<std::size_t>(i)];
  return std::sqrt(sum / static_cast<double>(kept.size()));
}

// Rows head * head_dim ... of the heads that stay.
Index head_rows(const Index& heads, std::int64_t head_dim, std::int64_t offset = 0) {
  Index rows;
  for (const auto head : heads)
    for (std::int64_t i = 0; i < head_dim; ++i) rows.push_back(offset + head * head_dim + i);
  return rows;
}

Index joined(Index a, const Index& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Index shifted(Index a, std::int64_t offset) {
  for (auto& i : a) i += offset;
  return a;
}

// What a tensor keeps and how its values change: w * scale + offset.
struct Cut {
  Index out, in;  // output features (the only ones of a vector), input features
  double scale = 1.0, offset = 0.0;
};

Cut norm_cut(const ModelConfig& c, const Index& hidden, double scale) {
  return {hidden, {}, scale, c.norm_adds_one ? scale - 1.0 : 0.0};  // (w + 1) * scale - 1
}

// The part of a name behind "model.layers.N."
Cut layer_cut(const ModelConfig& c, const PrunePlan& plan, std::size_t at, const std::string& part) {
  const PrunePlan::Layer& layer = plan.layers[at];
  const auto is = [&](const char* linear) { return part.starts_with(linear); };
  if (is("self_attn.qkv_proj.")) {
    const std::int64_t k = c.heads * c.head_dim, v = k + c.kv_heads * c.head_dim;
    return {joined(joined(head_rows(layer.heads, c.head_dim), head_rows(layer.kv_heads, c.head_dim, k)),
                   head_rows(layer.kv_heads, c.head_dim, v)),
            plan.hidden};
  }
  if (is("self_attn.q_proj.")) return {head_rows(layer.heads, c.head_dim), plan.hidden};
  if (is("self_attn.k_proj.") || is("self_attn.v_proj.")) return {head_rows(layer.kv_heads, c.head_dim), plan.hidden};
  if (is("self_attn.o_proj.")) return {plan.hidden, head_rows(layer.heads, c.head_dim)};
  if (is("self_attn.q_norm.") || is("self_attn.k_norm.")) return {everything(c.head_dim), {}};
  if (is("mlp.gate_up_proj."))
    return {joined(layer.channels, shifted(layer.channels, c.intermediate_size)), plan.hidden};
  if (is("mlp.gate_proj.") || is("mlp.up_proj.")) return {layer.channels, plan.hidden};
  if (is("mlp.down_proj.")) return {plan.hidden, layer.channels};
  if (is("input_layernorm.")) return norm_cut(c, plan.hidden, plan.attention_scale[at]);
  if (is("pre_feedforward_layernorm.") || (is("post_attention_layernorm.") && !c.post_norms))
    return norm_cut(c, plan.hidden, plan.mlp_scale[at]);
  if (is("post_attention_layernorm.") || is("post_feedforward_layernorm.")) return norm_cut(c, plan.hidden, 1.0);
  fail("[prune] cannot cut tensor ", part, ": its role is not known");
}

Cut model_cut(const ModelConfig& c, const PrunePlan& plan, const std::string& name) {
  // Gemma multiplies embeddings by sqrt(hidden size): the student's smaller factor is made up for in the matrix and, since
  // the output projection shares it, taken back in the last norm.
  const double factor = c.scaled_embeddings
                            ? std::sqrt(static_cast<double>(c.hidden_size) / static_cast<double>(plan.hidden.size()))
                            : 1.0;
  if (name == "model.embed_tokens.weight") return {everything(c.vocab_size), plan.hidden, factor};
  if (name == "lm_head.weight") return {everything(c.vocab_size), plan.hidden};
  if (name == "model.norm.weight")
    return norm_cut(c, plan.hidden, plan.final_scale / (c.tied_embeddings ? factor : 1.0));
  fail("[prune] cannot cut tensor ", name, ": its role is not known");
}

// A tensor over the source's, in floats, read row by row.
Tensor cut_tensor(const Tensor& source, std::string name, const Cut& cut) {
  const bool vector = source.shape.size() == 1;
  const auto out = static_cast<std::int64_t>(cut.out.size());
  Tensor tensor;
  tensor.name = std::move(name);
  tensor.type = Type::kF32;
  tensor.shape = vector ? Shape{out} : Shape{out, static_cast<std::int64_t>(cut.in.size())};
  const Index rows = vector ? Index{0} : cut.out, columns = vector ? cut.out : cut.in;
  const auto scale = static_cast<float>(cut.scale), offset = static_cast<float>(cut.offset);
  tensor.read_rows = [source, rows, columns, scale, offset](std::int64_t begin, std::int64_t end, std::byte* bytes) {
    std::vector<float> kept(columns.size());
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t row = rows[static_cast<std::size_t>(i)];
      const std::vector<float> values = read_floats(source, row, row + 1);
      for (std::size_t j = 0; j < columns.size(); ++j) kept[j] = values[static_cast<std::size_t>(columns[j])];
      if (scale != 1.0f || offset != 0.0f)
        for (float& w : kept) w = w * scale + offset;
      std::memcpy(bytes, kept.data(), kept.size() * sizeof(float));
      bytes += kept.size() * sizeof(float);
    }
  };
  return tensor;
}

}  // namespace

std::int64_t kv_heads_of(const ModelConfig& config, const StudentShape& shape) {
  return config.heads == config.kv_heads ? shape.heads : shape.kv_heads > 0 ? shape.kv_heads : config.kv_heads;
}

void check_shape(const ModelConfig& c, const StudentShape& shape) {
  const auto within = [](const char* what, std::int64_t size, std::int64_t of) {
    if (size < 1 || size > of) fail("[prune] the student cannot have ", size, " ", what, "; the teacher has ", of);
  };
  within("layers", shape.layers, c.layers);
  within("hidden channels", shape.hidden, c.hidden_size);
  within("FFN channels", shape.ffn, c.intermediate_size);
  const std::int64_t groups = kv_heads_of(c, shape);
  if (c.heads != c.kv_heads) within("key-value heads", groups, c.kv_heads);
  within("heads", shape.heads, c.heads);
  if (c.heads == c.kv_heads) {
    if (shape.kv_heads != 0 && shape.kv_heads != shape.heads)
      fail("[prune] every head of this model has a key-value head of its own, so ", shape.heads, " heads cannot share ", shape.kv_heads,
           "; leave --kv-heads out");
    return;
  }
  if (shape.heads % groups != 0)
    fail("[prune] ", shape.heads, " heads do not divide among the ", groups, " key-value groups that are kept; ask for a multiple of ", groups);
  if (const std::int64_t most = groups * (c.heads / c.kv_heads); shape.heads > most)
    fail("[prune] ", groups, " key-value groups of this model have ", most, " heads, not ", shape.heads);
}

PrunePlan plan_pruning(const ModelConfig& c, const Importance& importance, const StudentShape& shape,
                       const std::vector<std::int64_t>& keep_layers) {
  check_shape(c, shape);
  PrunePlan plan;
  Index layers = keep_layers;
  if (layers.empty()) {
    layers = keep_best(everything(c.layers), importance.layers, shape.layers);
  } else {
    std::sort(layers.begin(), layers.end());
    if (std::adjacent_find(layers.begin(), layers.end()) != layers.end() || layers.front() < 0 || layers.back() >= c.layers)
      fail("[prune] the layers to keep must be different numbers from 0 to ", c.layers - 1);
    if (static_cast<std::int64_t>(layers.size()) != shape.layers)
      fail("[prune] ", layers.size(), " layers are named to be kept, but the student is to have ", shape.layers);
  }
  plan.hidden = keep_best(everything(c.hidden_size), importance.hidden, shape.hidden);
  for (const auto index : layers) {
    const auto i = static_cast<std::size_t>(index);
    PrunePlan::Layer layer;
    layer.index = index;
    layer.channels = keep_best(everything(c.intermediate_size), importance.channels[i], shape.ffn);
    choose_heads(c, importance.heads[i], shape.heads, kv_heads_of(c, shape), layer);
    plan.attention_scale.push_back(norm_scale(importance.attention_energy[i], plan.hidden));
    plan.mlp_scale.push_back(norm_scale(importance.mlp_energy[i], plan.hidden));
    plan.layers.push_back(std::move(layer));
  }
  plan.final_scale = norm_scale(importance.final_energy, plan.hidden);
  return plan;
}

ModelConfig pruned_config(const ModelConfig& config, const PrunePlan& plan) {
  const auto size = [](const Index& index) { return static_cast<std::int64_t>(index.size()); };
  ModelConfig student = config;
  student.layers = static_cast<std::int64_t>(plan.layers.size());
  student.hidden_size = size(plan.hidden);
  student.intermediate_size = size(plan.layers.front().channels);
  student.heads = size(plan.layers.front().heads);
  student.kv_heads = size(plan.layers.front().kv_heads);
  student.sliding_layers.clear();
  if (!config.sliding_layers.empty())
    for (const auto& layer : plan.layers)
      student.sliding_layers.push_back(config.sliding_layers[static_cast<std::size_t>(layer.index)]);
  return student;
}

Checkpoint prune(const Checkpoint& teacher, const PrunePlan& plan) {
  Checkpoint student;
  student.path = teacher.path;
  student.format = teacher.format;
  student.config = pruned_config(teacher.config, plan);
  student.tokenizer = teacher.tokenizer;
  for (const ParameterSpec& spec : parameters(student.config)) {
    constexpr std::string_view kLayers = "model.layers.";
    if (!spec.name.starts_with(kLayers)) {
      student.tensors.push_back(cut_tensor(teacher.at(spec.name), spec.name, model_cut(teacher.config, plan, spec.name)));
      continue;
    }
    const std::size_t dot = spec.name.find('.', kLayers.size());
    const auto at = static_cast<std::size_t>(std::stoul(spec.name.substr(kLayers.size(), dot - kLayers.size())));
    const std::string part = spec.name.substr(dot + 1);
    const std::string source = cat(kLayers, plan.layers[at].index, ".", part);
    student.tensors.push_back(cut_tensor(teacher.at(source), spec.name, layer_cut(teacher.config, plan, at, part)));
  }
  return student;
}

Checkpoint Cutter::over(std::int64_t vocabulary) const {
  if (vocabulary == teacher.config.vocab_size) return teacher;
  if (!tokens) fail("[prune] the vocabulary is to be cut to ", vocabulary, " tokens, but they were not ranked");
  return select_tokens(teacher, tokens->first(vocabulary));
}

}  // namespace attar
