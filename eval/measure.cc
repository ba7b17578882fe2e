#include "eval/measure.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <mutex>

#include "base/console.h"
#include "base/threads.h"
#include "eval/stored_reference.h"

namespace attar {
namespace {

constexpr std::int64_t kCpuBatchTokens = 512, kGpuBatchTokens = 16384;
constexpr std::int64_t kLogitsOnGpu = std::int64_t{1} << 27;

std::int64_t longest(std::span<const Sequence> sequences) {
  std::size_t length = 0;
  for (const Sequence& s : sequences) length = std::max(length, s.ids.size());
  return static_cast<std::int64_t>(length);
}

struct Batch {
  std::size_t first = 0, count = 0;  // sequences
  std::size_t slot = 0;              // of its first score
};

class Measurement {
 public:
  Measurement(std::span<const Sequence> sequences, const Against& against, std::int64_t vocab, bool gpu)
      : sequences_(sequences), against_(against), vocab_(vocab), gpu_(gpu), length_(longest(sequences)) {
    per_batch_ = static_cast<std::size_t>(
        std::max<std::int64_t>(1, (gpu ? kGpuBatchTokens : kCpuBatchTokens) / std::max<std::int64_t>(1, length_)));
    std::size_t slot = 0;
    for (std::size_t first = 0; first < sequences.size(); first += per_batch_) {
      batches_.push_back({first, std::min(per_batch_, sequences.size() - first), slot});
      for (const Sequence& s : sequences.subspan(first, batches_.back().count)) slot += static_cast<std::size_t>(s.end - s.begin);
    }
    scores_.nll.resize(slot), scores_.top.resize(slot);
    if (against.encoded != nullptr) against.encoded->resize(slot);
    if (against.model == nullptr && against.stored == nullptr) return;
    scores_.reference_nll.resize(slot), scores_.kl.resize(slot), scores_.acceptance.resize(slot);
    scores_.reference_top.resize(slot), scores_.same_top.resize(slot);
  }

  const std::vector<Batch>& batches() const { return batches_; }
  std::span<const Sequence> of(const Batch& batch) const { return sequences_.subspan(batch.first, batch.count); }
  TokenScores take() { return std::move(scores_); }

  void run(Predictor& model, Predictor* reference, const Batch& batch) {
    // A row of a matrix product can depend on how many rows there are, in its last bit. So the last batch is filled up, and what a
    // chunk scores does not depend on how many chunks are asked for.
    std::vector<Sequence> sequences(of(batch).begin(), of(batch).end());
    sequences.resize(per_batch_, sequences.back());
    std::vector<std::int64_t> targets;
    for (const Sequence& s : of(batch)) targets.insert(targets.end(), s.ids.begin() + s.begin + 1, s.ids.begin() + s.end + 1);
    std::int64_t positions = 0;
    for (const Sequence& s : sequences) positions += s.end - s.begin;
    model.read(sequences, length_);
    if (reference != nullptr) reference->read(sequences, length_);

    const std::int64_t step = std::max<std::int64_t>(1, (gpu_ ? kLogitsOnGpu : kLogitsOnCpu) / vocab_);
    for (std::int64_t begin = 0; begin < positions; begin += step) {
      check_interrupt();
      const std::int64_t count = std::min(step, positions - begin);
      const float* logits = model.logits(begin, count);
      const float* reference_logits = reference != nullptr ? reference->logits(begin, count) : nullptr;
      const auto score = [&](std::int64_t row) {
        score_position(batch.slot + static_cast<std::size_t>(begin + row), logits + row * vocab_,
                       reference != nullptr ? reference_logits + row * vocab_ : nullptr, targets[static_cast<std::size_t>(begin + row)]);
      };
      const std::int64_t wanted = std::clamp<std::int64_t>(static_cast<std::int64_t>(targets.size()) - begin, 0, count);
      if (gpu_)  // one thread drives the model, so all may score
        parallel_for(wanted, score);
      else
        for (std::int64_t row = 0; row < wanted; ++row) score(row);
    }
  }

  double batch_nll(const Batch& batch) const {
    double sum = 0;
    const std::size_t end = &batch == &batches_.back() ? scores_.nll.size() : (&batch)[1].slot;
    for (std::size_t i = batch.slot; i < end; ++i) sum += scores_.nll[i];
    return sum;
  }

 private:
  void score_position(std::size_t slot, const float* logits, const float* reference, std::int64_t target) {
    const std::span row(logits, static_cast<std::size_t>(vocab_));
    if (reference != nullptr || against_.stored != nullptr) {
      const PairScore pair = reference != nullptr ? score_rows(row, {reference, row.size()}, target)
                                                  : against_.stored->score(slot, row, target);
      scores_.nll[slot] = pair.model.nll, scores_.top[slot] = pair.model.top;
      scores_.reference_nll[slot] = pair.reference.nll, scores_.reference_top[slot] = pair.reference.top;
      scores_.kl[slot] = pair.kl, scores_.acceptance[slot] = pair.acceptance;
      scores_.same_top[slot] = pair.model.top == pair.reference.top;
      if (std::isnan(pair.reference.nll)) fail_at(slot, "reference");
    } else {
      const TokenScore score = score_row(row, target);
      scores_.nll[slot] = score.nll, scores_.top[slot] = score.top;
    }
    if (against_.encoded != nullptr) (*against_.encoded)[slot] = encode_position(row, target, slot);
    if (std::isnan(scores_.nll[slot])) fail_at(slot, "model");
  }

  [[noreturn]] void fail_at(std::size_t slot, const char* who) const {
    fail("eval: the ", who, "'s logits at scored position ", slot, " are not finite; its weights are damaged, or values "
         "overflow float32");
  }

  std::span<const Sequence> sequences_;
  Against against_;
  std::int64_t vocab_;
  bool gpu_;
  std::int64_t length_;
  std::size_t per_batch_ = 1;
  std::vector<Batch> batches_;
  TokenScores scores_;
};

std::string perplexity_text(double nll, std::size_t count) {
  char text[48];
  std::snprintf(text, sizeof text, "perplexity %.4f", std::exp(nll / static_cast<double>(std::max<std::size_t>(1, count))));
  return text;
}

}  // namespace

TokenScores measure(Predictor& model, const Against& against, std::span<const Sequence> sequences, const std::string& label) {
  Predictor* reference = against.model;
  const bool gpu = model.on_gpu();
  Measurement measurement(sequences, against, model.config().vocab_size, gpu);
  const std::vector<Batch>& batches = measurement.batches();
  std::uint64_t tokens = 0;
  for (const Sequence& s : sequences) tokens += s.ids.size();
  Progress progress(label, tokens, "tokens");

  std::mutex mutex;
  std::atomic<std::size_t> next{0};
  double nll = 0;          // of what is done so far, for the progress line only
  std::size_t scored = 0;
  const auto finish = [&](const Batch& batch) {
    std::uint64_t done = 0;
    const std::lock_guard lock(mutex);
    for (const Sequence& s : measurement.of(batch)) {
      done += s.ids.size();
      scored += static_cast<std::size_t>(s.end - s.begin);
    }
    nll += measurement.batch_nll(batch);
    progress.advance(done, perplexity_text(nll, scored));
  };

  const auto work = [&](Predictor& own, Predictor* own_reference) {
    try {
      for (std::size_t i = next++; i < batches.size(); i = next++) {
        measurement.run(own, own_reference, batches[i]);
        finish(batches[i]);
      }
    } catch (...) {
      next = batches.size();  // the other threads stop after their batch
      throw;
    }
  };

  if (gpu) {
    work(model, reference);
  } else {
    const OneTorchThread one;  // while the threads here each run LibTorch
    const auto workers = std::min<std::int64_t>(thread_count(), static_cast<std::int64_t>(batches.size()));
    parallel_for(workers, [&](std::int64_t) {
      at::set_num_threads(1);  // this setting belongs to the thread
      const auto own = model.for_thread();
      const auto own_reference = reference != nullptr ? reference->for_thread() : nullptr;
      work(*own, own_reference.get());
    });
  }
  return measurement.take();
}

TokenScores measure(Decoder& model, Decoder* reference, std::span<const Sequence> sequences, const std::string& label) {
  const auto own = predictor(model), other = reference != nullptr ? predictor(*reference) : nullptr;
  return measure(*own, Against{.model = other.get()}, sequences, label);
}

}  // namespace attar
