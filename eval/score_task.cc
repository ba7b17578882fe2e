#include "eval/score_task.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <regex>
#include <span>

#include "base/console.h"
#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "eval/scores.h"

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

ItemScore ask(Predictor& model, std::span<const Sequence> requests, const Ids& prefix, const std::string& where) {
  model.read_choices(requests, prefix);
  const std::int64_t vocab = model.config().vocab_size, step = std::max<std::int64_t>(1, kLogitsOnCpu / vocab);
  std::vector<std::int64_t> targets;
  for (const Sequence& r : requests) targets.insert(targets.end(), r.ids.begin() + r.begin + 1, r.ids.begin() + r.end + 1);
  std::vector<TokenScore> tokens;
  for (std::int64_t begin = 0; begin < std::ssize(targets); begin += step) {
    const std::int64_t count = std::min(step, std::ssize(targets) - begin);
    const float* logits = model.logits(begin, count);
    for (std::int64_t row = 0; row < count; ++row) {
      tokens.push_back(score_row({logits + row * vocab, static_cast<std::size_t>(vocab)}, targets[tokens.size()]));
      if (std::isnan(tokens.back().nll))
        fail("eval: ", where, ": the model's logits are not finite; its weights are damaged, or values overflow float32");
    }
  }
  ItemScore score;
  std::size_t next = 0;
  for (const Sequence& r : requests) {
    RequestScore sum{0, true};
    for (std::int64_t p = r.begin; p < r.end; ++p, ++next) {
      sum.log_likelihood -= tokens[next].nll;
      sum.greedy &= tokens[next].top == targets[next];
    }
    score.requests.push_back(sum);
  }
  return score;
}

std::string write_answer(Predictor& model, const Tokenizer& tokenizer, const Task& task, const TaskItem& item,
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
  return model.write(tokenizer, prompt, how).text;
}

// The first group of the pattern's last match; no pattern: all of it.
std::string extract(const std::string& text, const std::string& pattern) {
  if (pattern.empty()) return text;
  const std::regex regex(pattern);
  std::string last;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) last = it->str(it->size() > 1 ? 1 : 0);
  return last;
}

std::size_t characters(const std::string& utf8) {
  return static_cast<std::size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

Sequence encode_request(const Tokenizer& tokenizer, const std::string& context, const std::string& continuation,
                       const AskOptions& options, const std::string& where) {
  const std::size_t end = context.find_last_not_of(" \t\r\n\v\f") + 1;
  const std::string head = context.substr(0, end), tail = context.substr(end) + continuation;
  Sequence request;
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
    fail("task: ", where, ": '", as_utf8(continuation.substr(0, 40)), "...' has ", scored, " tokens, and the model takes ", options.context);
  const auto most = static_cast<std::size_t>(options.context) + 1;
  if (request.ids.size() > most) {
    length -= request.ids.size() - most;
    request.ids.erase(request.ids.begin(), request.ids.end() - static_cast<std::int64_t>(most));
  }
  request.begin = static_cast<std::int64_t>(length) - 1, request.end = std::ssize(request.ids) - 1;
  return request;
}

std::vector<ItemScore> score_task(Predictor& model, const Tokenizer& tokenizer, const Task& task, const AskOptions& options) {
  const bool writes = task.kind == TaskKind::kGenerated;
  std::vector<std::vector<Sequence>> requests(task.items.size());
  if (!writes)
    parallel_for(static_cast<std::int64_t>(task.items.size()), [&](std::int64_t i) {
      const TaskItem& item = task.items[static_cast<std::size_t>(i)];
      for (std::size_t r = 0; r < item.requests(); ++r)
        requests[static_cast<std::size_t>(i)].push_back(
            encode_request(tokenizer, item.context(r), task.delimiter + item.continuation(r), options, item.where));
    });
  // What every request of the task begins with, before any of them is scored.
  Ids prefix;
  if (task.shots > 0 && !writes) {
    prefix = requests[0][0].ids;
    for (const auto& one : requests)
      for (const Sequence& r : one) {
        const std::int64_t most = std::min(std::ssize(prefix), r.begin);
        prefix.erase(std::mismatch(prefix.begin(), prefix.begin() + most, r.ids.begin()).first, prefix.end());
      }
  }

  std::vector<ItemScore> scores(task.items.size());
  Progress progress(task.name, task.items.size(), "items");
  std::mutex mutex;
  std::atomic<std::size_t> next{0};
  const auto work = [&](Predictor& own) {
    try {
      for (std::size_t i = next++; i < scores.size(); i = next++) {
        check_interrupt();
        if (writes) scores[i].generated = write_answer(own, tokenizer, task, task.items[i], options);
        else scores[i] = ask(own, requests[i], prefix, task.items[i].where);
        const std::lock_guard lock(mutex);
        progress.advance(1);
      }
    } catch (...) {
      next = scores.size();  // the other threads stop after their item
      throw;
    }
  };
  if (model.on_gpu()) {
    work(model);
    return scores;
  }
  const OneTorchThread one;
  parallel_for(std::min<std::int64_t>(thread_count(), static_cast<std::int64_t>(scores.size())), [&](std::int64_t) {
    at::set_num_threads(1);  // this setting belongs to the thread
    work(*model.for_thread());
  });
  return scores;
}

std::vector<ItemScore> score_task(Decoder& model, const Tokenizer& tokenizer, const Task& task, const AskOptions& options) {
  return score_task(*predictor(model), tokenizer, task, options);
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
                const std::string text = comparable(extract(score.generated, task.extract), task);
                return std::any_of(item.continuations.begin(), item.continuations.end(),
                                   [&](const std::string& good) { return comparable(good, task) == text; });
              })}};
  }
  return {};
}

}  // namespace attar
