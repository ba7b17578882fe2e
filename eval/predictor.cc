#include "eval/predictor.h"

#include <algorithm>

#include "base/error.h"
#include "runtime/rope.h"

namespace attar {
namespace {

std::int64_t common(const Ids& a, const Ids& b, std::int64_t most) {
  most = std::min({most, std::ssize(a), std::ssize(b)});
  return std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin();
}

// Tokens that all choices begin with and none has a score in: their keys and values may be computed once.
std::int64_t shared(std::span<const Sequence> choices) {
  std::int64_t n = choices.empty() ? 0 : choices[0].begin;
  for (const Sequence& s : choices) n = common(choices[0].ids, s.ids, std::min(n, s.begin));
  return n;
}

// A cache of its own for `batch` sequences that all begin with what `from` holds, with room for `room` tokens.
KvCache fork(const KvCache& from, std::int64_t batch, std::int64_t room) {
  KvCache copy;
  copy.length = from.length;
  const auto widen = [&](const at::Tensor& x) {
    at::Tensor wide = at::empty({batch, x.size(1), room, x.size(3)}, x.options());
    wide.narrow(2, 0, from.length).copy_(x.narrow(2, 0, from.length));
    return wide;
  };
  for (const at::Tensor& k : from.keys) copy.keys.push_back(widen(k));
  for (const at::Tensor& v : from.values) copy.values.push_back(widen(v));
  return copy;
}

class FloatPredictor final : public Predictor {
 public:
  explicit FloatPredictor(std::shared_ptr<Decoder> decoder) : decoder_(std::move(decoder)) {}

  const ModelConfig& config() const override { return decoder_->config(); }
  bool on_gpu() const override { return !decoder_->device().is_cpu(); }

  void read(std::span<const Sequence> texts, std::int64_t length) override {
    states_.clear();
    run(texts, 0, length, nullptr);
  }

  void read_choices(std::span<const Sequence> choices, const Ids& prefix) override {
    states_.clear();
    if (depends_on_length(config().rope)) {  // other angles for every length: nothing can be shared, nothing padded
      for (const Sequence& s : choices) run({&s, 1}, 0, s.end, nullptr);
      return;
    }
    if (prefix != prefix_) prefix_ = prefix, prefix_cache_ = extended({}, prefix, std::ssize(prefix));
    const std::int64_t same = shared(choices);
    std::int64_t longest = 0;
    for (const Sequence& s : choices) longest = std::max(longest, s.end);
    KvCache cache = fork(same == prefix_cache_.length ? prefix_cache_ : extended(fork(prefix_cache_, 1, same), choices[0].ids, same),
                         std::ssize(choices), longest);
    run(choices, same, longest, &cache);
  }

  const float* logits(std::int64_t begin, std::int64_t count) override {
    const at::NoGradGuard no_grad;
    if (states_.size() > 1) states_ = {at::cat(states_, 0)};
    logits_ = decoder_->logits(states_.front().narrow(0, begin, count)).to(at::kCPU).contiguous();
    return logits_.data_ptr<float>();
  }

  Generated write(const Tokenizer& tokenizer, const Ids& prompt, const GenerateOptions& options) override {
    return generate(*decoder_, tokenizer, prompt, options);
  }

  std::unique_ptr<Predictor> for_thread() const override { return predictor(share_weights(*decoder_)); }

 private:
  // Tokens [from, to) of all texts, those before are in the cache; what is missing of a text is padded.
  void run(std::span<const Sequence> texts, std::int64_t from, std::int64_t to, KvCache* cache) {
    const at::NoGradGuard no_grad;
    at::Tensor ids = at::zeros({std::ssize(texts), to - from}, at::kLong);
    for (std::size_t b = 0; b < texts.size(); ++b) {
      const Ids& own = texts[b].ids;
      std::copy(own.begin() + from, own.begin() + std::min(to, std::ssize(own)),
                ids.data_ptr<std::int64_t>() + static_cast<std::int64_t>(b) * (to - from));
    }
    const at::Tensor hidden = decoder_->hidden_states(ids.to(decoder_->device()), cache);
    for (std::size_t b = 0; b < texts.size(); ++b)
      states_.push_back(hidden[static_cast<std::int64_t>(b)].narrow(0, texts[b].begin - from, texts[b].end - texts[b].begin));
  }

  // The cache after the first `length` of ids, of which it holds some.
  KvCache extended(KvCache cache, const Ids& ids, std::int64_t length) {
    const at::NoGradGuard no_grad;
    if (length > cache.length) {
      const at::Tensor rest = at::tensor(Ids(ids.begin() + cache.length, ids.begin() + length), at::kLong).unsqueeze(0);
      decoder_->hidden_states(rest.to(decoder_->device()), &cache);
    }
    return cache;
  }

  std::shared_ptr<Decoder> decoder_;
  Ids prefix_;
  KvCache prefix_cache_;
  std::vector<at::Tensor> states_;
  at::Tensor logits_;
};

class PackedPredictor final : public Predictor {
 public:
  explicit PackedPredictor(std::unique_ptr<Runner> runner) : runner_(std::move(runner)) {}

  const ModelConfig& config() const override { return runner_->config(); }

  void read(std::span<const Sequence> texts, std::int64_t) override {
    states_.clear();
    for (const Sequence& s : texts) run(s, 0);
  }

  // The first choice goes on from the prefix, each other from where it parts with the one before: nothing depends on earlier questions.
  void read_choices(std::span<const Sequence> choices, const Ids& prefix) override {
    states_.clear();
    const bool separate = depends_on_length(config().rope);
    const std::int64_t length = separate ? 0 : std::ssize(prefix);
    if (common(held_, prefix, length) < length) {
      runner_->clear();
      runner_->states(prefix);
    }
    held_.assign(prefix.begin(), prefix.begin() + length);
    for (const Sequence& s : choices) run(s, separate ? 0 : common(held_, s.ids, s.begin));
  }

  const float* logits(std::int64_t begin, std::int64_t count) override {
    const auto width = static_cast<std::size_t>(config().hidden_size);
    runner_->logits(std::span(states_).subspan(static_cast<std::size_t>(begin) * width, static_cast<std::size_t>(count) * width), logits_);
    return logits_.data();
  }

  Generated write(const Tokenizer& tokenizer, const Ids& prompt, const GenerateOptions& options) override {
    held_.clear();
    return generate(*runner_, tokenizer, prompt, options);
  }

  std::unique_ptr<Predictor> for_thread() const override { return predictor(runner_->beside()); }

 private:
  // The first `from` tokens are those of the context.
  void run(const Sequence& s, std::int64_t from) {
    runner_->rewind(from);
    const std::vector<float> states = runner_->states(std::span(s.ids).subspan(static_cast<std::size_t>(from), static_cast<std::size_t>(s.end - from)));
    states_.insert(states_.end(), states.begin() + (s.begin - from) * config().hidden_size, states.end());
    held_.assign(s.ids.begin(), s.ids.begin() + s.end);
  }

  std::unique_ptr<Runner> runner_;
  Ids held_;  // of the context
  std::vector<float> states_, logits_;
};

}  // namespace

std::unique_ptr<Predictor> predictor(std::shared_ptr<Decoder> decoder) { return std::make_unique<FloatPredictor>(std::move(decoder)); }
std::unique_ptr<Predictor> predictor(std::unique_ptr<Runner> runner) { return std::make_unique<PackedPredictor>(std::move(runner)); }
std::unique_ptr<Predictor> predictor(Decoder& decoder) { return predictor(std::shared_ptr<Decoder>(std::shared_ptr<void>(), &decoder)); }

}  // namespace attar
