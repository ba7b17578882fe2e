#include "eval/score_task.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cmath>
#include <mutex>
#include <regex>
#include <span>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "eval/measure.h"
#include "eval/scores.h"
#include "model/generate.h"
#include "runtime/rope.h"

namespace attar {
namespace {

Ids encode(const Tokenizer& tokenizer, const std::string& text, bool bos) {
  const TokenizerData& data = tokenizer.data();
  Ids ids = tokenizer.encode(text, bos);
  if (bos && data.add_eos && !ids.empty() && ids.back() == data.eos_id) ids.pop_back();
  return ids;
}

// What a context of no text becomes: the token that begins a text.
std::int64_t first_token(const TokenizerData& data, const std::string& where) {
  const std::int64_t id = data.bos_id >= 0 ? data.bos_id : data.eos_id;
  if (id < 0) fail("task: ", where, ": the context is empty, and the tokenizer has neither BOS nor EOS to begin with");
  return id;
}

std::int64_t common(const Ids& a, const Ids& b, std::int64_t most) {
  std::int64_t n = 0;
  while (n < most && a[static_cast<std::size_t>(n)] == b[static_cast<std::size_t>(n)]) ++n;
  return n;
}

// Tokens that all requests begin with and none has a score in: their keys and values may be computed once.
std::int64_t shared(const std::vector<Request>& requests) {
  std::int64_t n = requests.empty() ? 0 : requests[0].begin;
  for (const Request& r : requests) n = common(requests[0].ids, r.ids, std::min(n, r.begin));
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

at::Tensor slice(const Ids& ids, std::int64_t begin, std::int64_t end) {
  return at::tensor(Ids(ids.begin() + begin, ids.begin() + end), at::kLong).unsqueeze(0);
}

// One thread's model at work.
class Asker {
 public:
  Asker(Decoder& model, const Ids& prefix) : model_(model), separate_(depends_on_length(model.config().rope)) {
    if (separate_ || prefix.empty()) return;
    const at::NoGradGuard no_grad;
    model_.hidden_states(slice(prefix, 0, static_cast<std::int64_t>(prefix.size())).to(model_.device()), &prefix_);
  }

  ItemScore ask(const std::vector<Request>& requests, const std::string& where) {
    const at::NoGradGuard no_grad;
    ItemScore score;
    if (separate_) {  // other angles for every length: nothing can be shared, nothing padded
      for (const Request& r : requests) run(std::span(&r, 1), KvCache{}, where, score);
      return score;
    }
    const std::int64_t same = shared(requests);
    std::int64_t longest = 0;
    for (const Request& r : requests) longest = std::max(longest, static_cast<std::int64_t>(r.ids.size()));
    const auto batch = static_cast<std::int64_t>(requests.size());
    if (same == prefix_.length) {
      run(requests, fork(prefix_, batch, longest), where, score);
    } else {
      KvCache context = fork(prefix_, 1, same);
      model_.hidden_states(slice(requests[0].ids, context.length, same).to(model_.device()), &context);
      run(requests, fork(context, batch, longest), where, score);
    }
    return score;
  }

 private:
  // cache: what all requests begin with. Shorter ones are padded at their end, where causal attention cannot see it.
  void run(std::span<const Request> requests, KvCache cache, const std::string& where, ItemScore& score) {
    const std::int64_t past = cache.length;
    std::int64_t time = 0;
    for (const Request& r : requests) time = std::max(time, static_cast<std::int64_t>(r.ids.size()) - 1 - past);
    at::Tensor ids = at::zeros({static_cast<std::int64_t>(requests.size()), time}, at::kLong);
    for (std::size_t b = 0; b < requests.size(); ++b)
      std::copy(requests[b].ids.begin() + past, requests[b].ids.end() - 1,
                ids.data_ptr<std::int64_t>() + static_cast<std::int64_t>(b) * time);
    const at::Tensor hidden = model_.hidden_states(ids.to(model_.device()), separate_ ? nullptr : &cache);
    for (std::size_t b = 0; b < requests.size(); ++b) {
      const Request& r = requests[b];
      const std::int64_t count = static_cast<std::int64_t>(r.ids.size()) - 1 - r.begin;
      const at::Tensor logits =
          model_.logits(hidden[static_cast<std::int64_t>(b)].narrow(0, r.begin - past, count)).to(at::kCPU).contiguous();
      RequestScore sum{0, true};
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t target = r.ids[static_cast<std::size_t>(r.begin + i) + 1];
        const auto width = static_cast<std::size_t>(logits.size(1));
        const TokenScore token = score_row({logits.data_ptr<float>() + i * logits.size(1), width}, target);
        if (std::isnan(token.nll))
          fail("eval: ", where, ": the model's logits are not finite; its weights are damaged, or values overflow float32");
        sum.log_likelihood -= token.nll;
        sum.greedy &= token.top == target;
      }
      score.requests.push_back(sum);
    }
  }

  Decoder& model_;
  bool separate_;
  KvCache prefix_;
};

std::string write_answer(Decoder& model, const Tokenizer& tokenizer, const Task& task, const TaskItem& item,
                         const AskOptions& options) {
  Ids prompt = encode(tokenizer, item.contexts[0], options.bos);
  if (prompt.empty()) prompt.push_back(first_token(tokenizer.data(), item.where));
  const std::int64_t most = options.context - task.max_tokens;
  if (most < 1)
    fail("task ", task.name, ": max_tokens ", task.max_tokens, " leaves no room for the question in the model's ",
         options.context, " tokens");
  if (static_cast<std::int64_t>(prompt.size()) > most) prompt.erase(prompt.begin(), prompt.end() - most);
  GenerateOptions how;
  how.max_tokens = task.max_tokens;
  how.stop = task.stop;
  return generate(model, tokenizer, prompt, how).text;
}

// The first group of the pattern's last match; no pattern: all of it.
std::string extract(const std::string& text, const std::string& pattern) {
  if (pattern.empty()) return text;
  const std::regex regex(pattern);
  std::string last;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) last = it->str(it->size() > 1 ? 1 : 0);
  return last;
}

// As it is compared: without space around it and what the task says to ignore.
std::string normal(const std::string& text, const Task& task) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (task.ignore_punctuation && byte < 0x80 && std::ispunct(byte) != 0) continue;
    result += task.ignore_case && byte < 0x80 ? static_cast<char>(std::tolower(byte)) : c;
  }
  const auto begin = result.find_first_not_of(" \t\r\n"), end = result.find_last_not_of(" \t\r\n");
  return begin == std::string::npos ? "" : result.substr(begin, end - begin + 1);
}

std::size_t characters(const std::string& utf8) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

Request encode_request(const Tokenizer& tokenizer, const std::string& context, const std::string& continuation,
                       const AskOptions& options, const std::string& where) {
  const std::size_t end = context.find_last_not_of(" \t\r\n\v\f") + 1;
  const std::string head = context.substr(0, end), tail = context.substr(end) + continuation;
  Request request;
  std::size_t length;  // of the context
  if (head.empty()) {
    request.ids = tokenizer.encode(tail, false);
    request.ids.insert(request.ids.begin(), first_token(tokenizer.data(), where));
    length = 1;
  } else {
    request.ids = encode(tokenizer, head + tail, options.bos);
    length = encode(tokenizer, head, options.bos).size();
  }
  const auto scored = static_cast<std::int64_t>(request.ids.size()) - static_cast<std::int64_t>(length);
  if (scored <= 0 || length == 0) fail("task: ", where, ": '", continuation, "' has no token of its own to score");
  if (scored > options.context)
    fail("task: ", where, ": '", continuation.substr(0, 40), "...' has ", scored, " tokens, and the model takes ", options.context);
  const auto most = static_cast<std::size_t>(options.context) + 1;
  if (request.ids.size() > most) {
    length -= request.ids.size() - most;
    request.ids.erase(request.ids.begin(), request.ids.end() - static_cast<std::int64_t>(most));
  }
  request.begin = static_cast<std::int64_t>(length) - 1;
  return request;
}

std::vector<ItemScore> score_task(Decoder& model, const Tokenizer& tokenizer, const Task& task, const AskOptions& options) {
  const bool writes = task.kind == TaskKind::kGenerated;
  std::vector<std::vector<Request>> requests(task.items.size());
  if (!writes)
    parallel_for(static_cast<std::int64_t>(task.items.size()), [&](std::int64_t i) {
      const TaskItem& item = task.items[static_cast<std::size_t>(i)];
      for (std::size_t r = 0; r < item.requests(); ++r)
        requests[static_cast<std::size_t>(i)].push_back(
            encode_request(tokenizer, item.context(r), task.delimiter + item.continuation(r), options, item.where));
    });
  // What every request of the task begins with.
  Ids prefix;
  if (task.shots > 0 && !writes) {
    std::int64_t same = shared(requests[0]);
    for (const auto& one : requests) same = common(requests[0][0].ids, one[0].ids, std::min(same, shared(one)));
    prefix.assign(requests[0][0].ids.begin(), requests[0][0].ids.begin() + same);
  }

  std::vector<ItemScore> scores(task.items.size());
  Progress progress(task.name, task.items.size(), "items");
  std::mutex mutex;
  std::atomic<std::size_t> next{0};
  const auto work = [&](Decoder& own) {
    try {
      Asker asker(own, prefix);
      for (std::size_t i = next++; i < scores.size(); i = next++) {
        check_interrupt();
        if (writes) scores[i].generated = write_answer(own, tokenizer, task, task.items[i], options);
        else scores[i] = asker.ask(requests[i], task.items[i].where);
        const std::lock_guard lock(mutex);
        progress.advance(1);
      }
    } catch (...) {
      next = scores.size();  // the other threads stop after their item
      throw;
    }
  };
  if (!model.device().is_cpu()) {
    work(model);
    return scores;
  }
  const OneTorchThread one;
  if (is_packed(model)) {
    work(model);
    return scores;
  }
  parallel_for(std::min<std::int64_t>(thread_count(), static_cast<std::int64_t>(scores.size())), [&](std::int64_t) {
    at::set_num_threads(1);  // this setting belongs to the thread
    work(*share_weights(model));
  });
  return scores;
}

std::size_t answer(const ItemScore& score) {
  const auto less = [](const RequestScore& a, const RequestScore& b) { return a.log_likelihood < b.log_likelihood; };
  return static_cast<std::size_t>(std::max_element(score.requests.begin(), score.requests.end(), less) - score.requests.begin());
}

std::vector<TaskMetric> task_metrics(const Task& task, const std::vector<ItemScore>& scores) {
  const auto samples = [&](auto value, Samples::Link link = Samples::Link::kMean) {
    Samples result{link, {}, std::vector<double>(scores.size(), 1.0)};
    for (std::size_t i = 0; i < scores.size(); ++i) result.sums.push_back(static_cast<double>(value(task.items[i], scores[i])));
    return result;
  };
  const auto right = [](const TaskItem& item, const ItemScore& score) { return answer(score) == static_cast<std::size_t>(item.gold); };
  const auto right_per = [&](std::size_t (*length)(const std::string&)) {
    return samples([&](const TaskItem& item, ItemScore score) {
      for (std::size_t i = 0; i < score.requests.size(); ++i)
        score.requests[i].log_likelihood /= static_cast<double>(length(item.continuation(i)));
      return right(item, score);
    });
  };
  switch (task.kind) {
    case TaskKind::kMultipleChoice:
      return {{"acc", samples(right)},
              {"acc_norm", right_per(characters)},
              {"acc_bytes", right_per([](const std::string& text) { return text.size(); })}};
    case TaskKind::kTwoContexts:
      return {{"acc", samples(right)}};
    case TaskKind::kContinuation:
      return {{"acc", samples([](const TaskItem&, const ItemScore& score) { return score.requests[0].greedy; })},
              {"perplexity", samples([](const TaskItem&, const ItemScore& score) { return -score.requests[0].log_likelihood; },
                                     Samples::Link::kExp)}};
    case TaskKind::kGenerated:
      return {{"exact_match", samples([&](const TaskItem& item, const ItemScore& score) {
                const std::string text = normal(extract(score.generated, task.extract), task);
                return std::any_of(item.continuations.begin(), item.continuations.end(),
                                   [&](const std::string& good) { return normal(good, task) == text; });
              })}};
  }
  return {};
}

}  // namespace attar
