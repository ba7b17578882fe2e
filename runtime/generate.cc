#include "runtime/generate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/text.h"
#include "runtime/roofline.h"

namespace attar {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void check(const Ids& prompt, const GenerateOptions& options) {
  if (prompt.empty()) fail("generate: the prompt has no tokens; give some text, or a tokenizer that adds BOS");
  if (options.sampling.temperature < 0 || !std::isfinite(options.sampling.temperature))
    fail("generate: temperature ", options.sampling.temperature, ", expected 0 or more");
  if (options.sampling.top_k < 0) fail("generate: top-k ", options.sampling.top_k, ", expected 0 or more");
  if (!(options.sampling.top_p > 0 && options.sampling.top_p <= 1))
    fail("generate: top-p ", options.sampling.top_p, ", expected more than 0 and at most 1");
  for (const auto& stop : options.stop)
    if (stop.empty()) fail("generate: a stop text is empty");
}

// Text that has come so far, and how much of it may be shown: not what could still turn into a stop text.
class StopWatch {
 public:
  explicit StopWatch(const std::vector<std::string>& stops) : stops_(stops) {}

  // Adds a piece; true if a stop text is now in it, where text() ends then.
  bool add(std::string_view piece) {
    const std::size_t longest = longest_stop();
    const std::size_t from = text_.size() > longest ? text_.size() - longest : 0;
    text_ += piece;
    std::size_t first = std::string::npos;
    for (const auto& stop : stops_) first = std::min(first, text_.find(stop, from));
    if (first == std::string::npos) return false;
    text_.resize(first);
    return true;
  }

  // What has become certain since the last call. last: nothing more will come.
  std::string_view release(bool last) {
    std::size_t end = text_.size();
    if (!last) end -= held_back();
    end = std::max(end, shown_);
    const std::string_view piece = std::string_view(text_).substr(shown_, end - shown_);
    shown_ = end;
    return piece;
  }
  const std::string& text() const { return text_; }

 private:
  std::size_t longest_stop() const {
    std::size_t longest = 0;
    for (const auto& stop : stops_) longest = std::max(longest, stop.size());
    return longest;
  }
  // Length of the longest end of the text that is the beginning of a stop text.
  std::size_t held_back() const {
    std::size_t held = 0;
    for (const auto& stop : stops_)
      for (std::size_t n = std::min(stop.size() - 1, text_.size()); n > held; --n)
        if (std::string_view(text_).ends_with(std::string_view(stop).substr(0, n))) held = n;
    return held;
  }

  const std::vector<std::string>& stops_;
  std::string text_;
  std::size_t shown_ = 0;
};

}  // namespace

std::string description(const GenerateOptions& options) {
  const SamplingOptions& sampling = options.sampling;
  if (sampling.temperature == 0) return "the likeliest token each time";
  return cat("temperature ", sampling.temperature, sampling.top_k > 0 ? cat(", top-k ", sampling.top_k) : "", sampling.top_p < 1 ? cat(", top-p ", sampling.top_p) : "",
             ", seed ", options.seed);
}

std::int64_t sample(std::span<const float> logits, const SamplingOptions& options, Random& random) {
  const float* x = logits.data();
  const std::size_t count = logits.size();
  if (!std::all_of(x, x + count, [](float value) { return std::isfinite(value); }))
    fail("generate: the model's logits are not finite; its weights are damaged, or values overflow float32");
  if (options.temperature == 0.0) return std::max_element(x, x + count) - x;

  std::vector<std::int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](std::int64_t a, std::int64_t b) { return x[a] != x[b] ? x[a] > x[b] : a < b; };
  std::size_t kept = options.top_k > 0 ? std::min(count, static_cast<std::size_t>(options.top_k)) : count;
  const bool whole = kept == count && options.top_p >= 1.0;  // then the order does not matter, and sorting would take longest
  if (!whole) std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), likelier);
  const double highest = *std::max_element(x, x + count);
  std::vector<double> weight(kept);
  for (std::size_t i = 0; i < kept; ++i)
    weight[i] = std::exp((static_cast<double>(x[order[i]]) - highest) / options.temperature);
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  if (options.top_p < 1.0) {
    double sum = 0.0;
    std::size_t i = 0;
    while (i < kept && sum < options.top_p * total) sum += weight[i++];
    kept = i, total = sum;
  }
  double point = random.uniform() * total;
  for (std::size_t i = 0; i < kept; ++i)
    if ((point -= weight[i]) < 0) return order[i];
  return order[kept - 1];
}

Generated generate(TextModel& model, const Tokenizer& tokenizer, const Ids& prompt, const GenerateOptions& options,
                   const std::function<void(std::string_view)>& on_text) {
  check(prompt, options);
  std::vector<std::int64_t> ends = model.config().eos_ids;
  ends.insert(ends.end(), options.stop_ids.begin(), options.stop_ids.end());
  ends.push_back(tokenizer.data().eos_id);

  Generated result;
  Random random(options.seed);
  StreamDecoder stream(tokenizer);
  for (const std::int64_t id : prompt) stream.push(id);  // what comes continues it: a space in front is not the tokenizer's own
  StopWatch watch(options.stop);
  const auto show = [&](bool last) {
    const std::string_view piece = watch.release(last);
    if (on_text && !piece.empty()) on_text(piece);
  };
  model.clear();
  auto start = Clock::now();
  std::vector<float> logits = model.feed(prompt);
  result.prompt_seconds = seconds_since(start);
  start = Clock::now();
  result.stopped_by = "length";
  while (static_cast<std::int64_t>(result.ids.size()) < options.max_tokens) {
    const std::int64_t id = sample(logits, options.sampling, random);
    if (std::find(ends.begin(), ends.end(), id) != ends.end()) {
      result.stopped_by = "eos";
      break;
    }
    result.ids.push_back(id);
    if (watch.add(stream.push(id))) {
      result.stopped_by = "stop";
      break;
    }
    show(false);
    if (static_cast<std::int64_t>(result.ids.size()) < options.max_tokens) logits = model.feed({&id, 1});
  }
  if (result.stopped_by != "stop" && watch.add(stream.finish())) result.stopped_by = "stop";
  show(true);
  result.decode_seconds = seconds_since(start);
  result.text = watch.text();
  return result;
}

DecodeRate measure_rates(TextModel& model, std::int64_t prompt_tokens, std::int64_t decode_tokens) {
  if (prompt_tokens < 1 || decode_tokens < 1) fail("bench: the prompt and the decoded part need at least one token each");
  Random random(0);
  Ids ids;
  for (std::int64_t i = 0; i < prompt_tokens + decode_tokens; ++i)
    ids.push_back(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(model.config().vocab_size))));
  const std::span<const std::int64_t> all(ids);
  const auto prompt = all.first(static_cast<std::size_t>(prompt_tokens)), rest = all.subspan(prompt.size());
  model.clear();  // first a short run, as llama-bench does: then buffers have their size, and pages are there
  model.feed(prompt);
  model.feed(rest.first(1));
  DecodeRate rate;
  rate.prompt_tokens = prompt_tokens, rate.decode_tokens = decode_tokens;
  model.clear();
  auto start = Clock::now();
  model.feed(prompt);
  rate.prompt_seconds = seconds_since(start);
  std::vector<double> seconds;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    start = Clock::now();
    model.feed(rest.subspan(i, 1));
    rate.decode_seconds += seconds.emplace_back(seconds_since(start));
  }
  rate.token_seconds = median(seconds);
  return rate;
}

}  // namespace attar
