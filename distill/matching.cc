#include "distill/matching.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "model/tensor.h"

namespace attar {
namespace {

// AdamW moves each parameter by about the learning rate a step, whatever its gradient: so the map can make up its mind in a run's time.
constexpr double kKappa = 100;

template <class Change>
LayerStates changed(LayerStates states, const Change& change) {
  for (const auto part : {&LayerStates::hidden, &LayerStates::q, &LayerStates::k, &LayerStates::v})
    if ((states.*part).defined()) states.*part = change(states.*part);
  return states;
}

bool wanted(const std::vector<LayerPair>& pairs, std::int64_t teacher_layer) {
  return std::any_of(pairs.begin(), pairs.end(), [&](const LayerPair& pair) { return pair.second == teacher_layer; });
}

std::int64_t fitting_heads(std::int64_t asked, const ModelConfig& student, const ModelConfig& teacher) {
  // Queries are as wide as the keys or a multiple of it.
  const std::int64_t common = std::gcd(student.kv_heads * student.head_dim, teacher.kv_heads * teacher.head_dim);
  if (asked > 0 && common % asked != 0)
    fail("[distill] ", asked, " relation heads do not divide the queries (", student.heads * student.head_dim, " and ",
         teacher.heads * teacher.head_dim, " wide) and the keys (", student.kv_heads * student.head_dim, " and ",
         teacher.kv_heads * teacher.head_dim, ") of student and teacher; a divisor of ", common, " does");
  std::int64_t heads = asked > 0 ? asked : std::min(teacher.heads, common);
  while (common % heads != 0) --heads;
  return heads;
}

}  // namespace

void check_options(const MatchOptions& o) {
  if (!(o.hidden >= 0 && std::isfinite(o.hidden)))
    fail("[distill] match-hidden is ", o.hidden, "; a weight must be 0 (not matched) or above");
  if (!(o.attention >= 0 && std::isfinite(o.attention)))
    fail("[distill] match-attention is ", o.attention, "; a weight must be 0 (not matched) or above");
  if (o.relation_heads < 0) fail("[distill] relation-heads is ", o.relation_heads, "; it must be 0 (chosen) or above");
  if (!o.on() && o.map != LayerMap{})
    fail("[distill] a layer map says which layers are matched; it needs match-hidden or match-attention above 0");
  if (o.hidden == 0 && o.measure != MatchOptions{}.measure)
    fail("[distill] hidden-measure says how hidden states are compared; it needs match-hidden above 0");
  if (o.attention == 0 && o.relation_heads > 0)
    fail("[distill] relation-heads says how attention is compared; it needs match-attention above 0");
}

LayerStates run_layer(Decoder& decoder, std::int64_t index, const at::Tensor& x, bool attention) {
  LayerStates states;
  struct Listening {
    Decoder& decoder;
    ~Listening() { decoder.attention_observer = nullptr; }
  } const listening{decoder};
  if (attention)
    decoder.attention_observer = [&](std::int64_t, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
      states.q = q, states.k = k, states.v = v;
    };
  states.hidden = decoder.layer(index, x);
  return states;
}

Matching::Matching(const MatchOptions& options, const ModelConfig& student, const ModelConfig& teacher, const at::Device& device)
    : options_(options), pairs_(layer_pairs(options.map, student.layers, teacher.layers)), teacher_layers_(teacher.layers) {
  check_options(options);
  if (attention()) options_.relation_heads = fitting_heads(options.relation_heads, student, teacher);
  const auto add = [&](const char* name, at::Tensor values) {
    parameters_.emplace_back(name, values.to(device).set_requires_grad(true));
    return parameters_.back().second;
  };
  if (options.hidden > 0 && student.hidden_size != teacher.hidden_size) {
    const double deviation = 1 / std::sqrt(static_cast<double>(student.hidden_size));  // rows keep their size
    projection_ = add("matching.projection", at::randn({student.hidden_size, teacher.hidden_size},
                                                       at::detail::createCPUGenerator(options.seed), at::kFloat) * deviation);
  }
  if (options.map.kind == LayerMap::Kind::kLearned)  // a vector, which weight decay leaves alone
    theta_ = add("matching.map", at::zeros({student.layers * teacher.layers}, at::kFloat));
}

std::vector<double> Matching::weights() const {
  if (!theta_.defined()) return std::vector<double>(pairs_.size(), 1 / static_cast<double>(pairs_.size()));
  const at::Tensor theta = theta_.detach().to(at::kCPU, at::kDouble).view({-1, teacher_layers_});
  const at::Tensor w = at::softmax(theta * kKappa, -1).div_(theta.size(0)).contiguous();
  return {w.data_ptr<double>(), w.data_ptr<double>() + w.numel()};
}

at::Tensor Matching::begin(Decoder& teacher, const Batch& batch, double scale) {
  const at::NoGradGuard no_grad;
  document_ = batch.packed ? batch.packing.document : at::Tensor();
  counts_ = batch.targets.ne(kIgnoredTarget);
  hidden_sum_ = at::zeros({}, counts_.options().dtype(at::kDouble)), attention_sum_ = hidden_sum_.clone();
  scale_ = scale;
  weights_ = weights();
  at::Tensor x = teacher.embed(batch.ids);
  for (std::int64_t n = 0; n < teacher_layers_; ++n) {
    const bool wants = wanted(pairs_, n);
    const LayerStates states = run_layer(teacher, n, x, wants && attention());
    x = states.hidden;
    if (wants) teacher_[n] = changed(states, widened);
  }
  return teacher.final_norm(x);
}

// D (teachers). gradient: hidden * sum of w dD/dh.
at::Tensor Matching::match_hidden(const at::Tensor& student, const std::vector<at::Tensor>& teachers, const std::vector<double>& w,
                                  at::Tensor& gradient) {
  const at::Tensor h = student.reshape({-1, student.size(-1)}), s = projection_.defined() ? at::mm(h, projection_) : h;
  at::Tensor g = at::empty_like(s);
  const at::Tensor D = hidden_distances(options_.measure, s, teachers, w, counts_, g);
  g.mul_(options_.hidden * scale_);
  if (projection_.defined()) {
    projection_.mutable_grad().addmm_(h.t(), g);
    g = at::mm(g, projection_.t());
  }
  gradient = g.view(student.sizes());
  return D;
}

at::Tensor Matching::match_attention(const LayerStates& student, const std::vector<const LayerStates*>& teachers,
                                     const std::vector<double>& w, LayerStates& gradients) {
  constexpr at::Tensor LayerStates::* kParts[] = {&LayerStates::q, &LayerStates::k, &LayerStates::v};
  at::Tensor D;
  for (const auto part : kParts) {
    std::vector<at::Tensor> of_teachers;
    for (const LayerStates* teacher : teachers) of_teachers.push_back(teacher->*part);
    const at::Tensor X = (student.*part).detach();
    at::Tensor& gradient = gradients.*part = at::empty_like(X, at::MemoryFormat::Contiguous);
    const at::Tensor of_part = relation_distances(X, of_teachers, w, options_.relation_heads, document_, counts_, gradient) / 3;
    gradient.mul_(options_.attention * scale_ / 3);
    D = D.defined() ? D + of_part : of_part;
  }
  return D;
}

LayerStates Matching::gradients(std::int64_t layer, const LayerStates& given) {
  const at::NoGradGuard no_grad;
  const LayerStates student = changed(given, widened);
  std::vector<const LayerStates*> teachers;
  std::vector<at::Tensor> hidden;
  std::vector<double> w;
  for (std::size_t i = 0; i < pairs_.size(); ++i) {
    if (pairs_[i].first != layer) continue;
    const LayerStates& teacher = teacher_.at(pairs_[i].second);
    teachers.push_back(&teacher), hidden.push_back(teacher.hidden.view({-1, teacher.hidden.size(-1)})), w.push_back(weights_[i]);
  }
  LayerStates gradients;
  if (teachers.empty()) return gradients;
  const at::Tensor all_w = at::tensor(w, counts_.options().dtype(at::kDouble));
  at::Tensor D = at::zeros_like(all_w);  // as the loss has it, weighted by what is matched
  if (options_.hidden > 0) {
    const at::Tensor of_hidden = match_hidden(student.hidden.detach(), hidden, w, gradients.hidden);
    hidden_sum_ += (of_hidden * all_w).sum();
    D += of_hidden * options_.hidden;
  }
  if (attention()) {
    const at::Tensor of_attention = match_attention(student, teachers, w, gradients);
    attention_sum_ += (of_attention * all_w).sum();
    D += of_attention * options_.attention;
  }
  if (theta_.defined()) {  // dL/dtheta_mn = kappa w_mn (D_mn - their mean by softmax)
    const at::Tensor slope = kKappa * all_w * (D - (all_w * D).sum() / all_w.sum());
    theta_.mutable_grad().narrow(0, layer * teacher_layers_, teacher_layers_).add_(slope * scale_);
  }
  return changed(gradients, [&](const at::Tensor& x) { return x.to(given.hidden.scalar_type()); });
}

void Matching::end(LossSums& sums) {
  sums.hidden += hidden_sum_;
  sums.attention += attention_sum_;
  sums.total += options_.hidden * hidden_sum_ + options_.attention * attention_sum_;
  teacher_.clear();
}

}  // namespace attar
