#include "model/attention.h"

#include <limits>

#include "model/tensor.h"
#include "runtime/rope.h"

namespace attar {
namespace {

constexpr std::int64_t kMaxBlock = 256;               // queries
constexpr std::int64_t kMinBlock = 16;
constexpr std::int64_t kScoresPerBlock = 1ll << 24;   // floats: 64 MB

}  // namespace

RotaryTable::RotaryTable(const Rope& rope, std::int64_t head_dim, std::int64_t max_positions)
    : rope_(rope), head_dim_(head_dim), max_positions_(max_positions), follows_length_(depends_on_length(rope)) {
  rope_frequencies(rope_, head_dim_, max_positions_, max_positions_);  // throws now rather than at the first token
}

void RotaryTable::build(std::int64_t rows, std::int64_t length, const at::Device& device) {
  const RopeFrequencies frequencies = rope_frequencies(rope_, head_dim_, max_positions_, length);
  theta_ = frequencies.theta;
  const at::Tensor positions = at::arange(rows, at::kFloat).unsqueeze(1);
  const at::Tensor theta = tensor_of(theta_).unsqueeze(0);
  const at::Tensor angles = positions * theta;
  cos_ = (angles.cos() * frequencies.attention_factor).to(device);
  sin_ = (angles.sin() * frequencies.attention_factor).to(device);
}

std::vector<float> RotaryTable::theta(std::int64_t length) const {
  return rope_frequencies(rope_, head_dim_, max_positions_, length).theta;
}

bool RotaryTable::changes(std::int64_t from, std::int64_t to) const { return follows_length_ && theta(from) != theta(to); }

std::pair<at::Tensor, at::Tensor> RotaryTable::at(std::int64_t begin, std::int64_t end, const at::Device& device) {
  const at::NoGradGuard no_grad;
  const bool stale = follows_length_ && !theta_.empty() && theta(end) != theta_;
  if (stale || !cos_.defined() || cos_.size(0) < end || cos_.device() != device)
    build(std::max<std::int64_t>(end + end / 2, 128), end, device);
  return {cos_.narrow(0, begin, end - begin), sin_.narrow(0, begin, end - begin)};
}

at::Tensor MaskCache::get(std::int64_t queries, std::int64_t keys, std::int64_t shift, std::int64_t window,
                          const at::Device& device) {
  constexpr std::size_t kMost = 64;
  if (masks_.size() > kMost) masks_.clear();
  at::Tensor& mask = masks_[{queries, keys, shift, window, device.is_cpu() ? -1 : device.index()}];
  if (mask.defined()) return mask;
  const at::NoGradGuard no_grad;
  const at::Tensor ahead = at::arange(keys).unsqueeze(0) - at::arange(queries).unsqueeze(1) - shift;
  at::Tensor hidden = ahead > 0;
  if (window > 0) hidden = hidden.logical_or(ahead <= -window);
  mask = at::zeros({queries, keys}).masked_fill_(hidden, -std::numeric_limits<float>::infinity()).to(device);
  return mask;
}

at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const AttentionOptions& options,
                  MaskCache& masks) {
  const std::int64_t batch = q.size(0), heads = q.size(1), time = q.size(2), head_dim = q.size(3);
  const std::int64_t kv_heads = k.size(1), keys = k.size(2), group = heads / kv_heads;
  const std::int64_t before = keys - time;  // keys older than the first query
  const std::int64_t step = std::clamp(kScoresPerBlock / (batch * heads * keys), kMinBlock, kMaxBlock);
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < time; begin += step) {
    const std::int64_t count = std::min(step, time - begin);
    const std::int64_t last = before + begin + count;  // one past the newest key in sight
    const std::int64_t first = options.window > 0 ? std::max<std::int64_t>(0, before + begin + 1 - options.window) : 0;
    const at::Tensor Q = q.narrow(2, begin, count).reshape({batch, kv_heads, group * count, head_dim});
    const at::Tensor K = k.narrow(2, first, last - first), V = v.narrow(2, first, last - first);
    at::Tensor scores = widened(at::matmul(Q, K.transpose(2, 3))).view({batch, kv_heads, group, count, last - first});
    if (options.softcap > 0) scores = at::tanh(scores / options.softcap) * options.softcap;
    if (count > 1) {  // a single query sees all that is left after the cut to [first, last)
      const at::Tensor mask = masks.get(count, last - first, before + begin - first, options.window, q.device());
      scores = at::GradMode::is_enabled() ? scores + mask : scores.add_(mask);
    }
    if (options.document.defined()) {
      const at::Tensor own = options.document.narrow(1, before + begin, count).unsqueeze(2);
      const at::Tensor others = own.ne(options.document.narrow(1, first, last - first).unsqueeze(1));
      scores = scores.masked_fill(others.view({batch, 1, 1, count, last - first}), -std::numeric_limits<float>::infinity());
    }
    const at::Tensor weights = at::softmax(scores, -1).to(v.scalar_type()).view({batch, kv_heads, group * count, last - first});
    parts.push_back(at::matmul(weights, V).view({batch, heads, count, head_dim}));
  }
  const at::Tensor out = parts.size() == 1 ? parts[0] : at::cat(parts, 2);
  return out.transpose(1, 2).reshape({batch, time, heads * head_dim});
}

}  // namespace attar
