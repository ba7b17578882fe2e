#include "distill/candidates.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "distill/candidate_store.h"
#include "distill/data.h"
#include "distill/held_out_loss.h"
#include "distill/trainer.h"

namespace attar {
namespace {

struct Texts {
  std::vector<Chunk> training, heldout;
  std::int64_t heldout_tokens = 0;  // all of them, also those that fill no chunk
};

std::vector<Chunk> chunks_of(const std::vector<Document>& documents, const char* what, std::int64_t context) {
  SkipCounts skips;
  std::vector<Chunk> chunks = join_documents(documents, context + 1, skips);
  if (chunks.empty()) fail("[prune] the ", what, " text does not fill one chunk of ", context + 1, " tokens; use more text or a smaller --context");
  return chunks;
}

Texts texts_of(const SearchText& text, const TokenizerData& data, std::int64_t context) {
  const Tokenizer tokenizer(data);
  const std::vector<Document> heldout = text.heldout(tokenizer);
  Texts texts{chunks_of(text.training(tokenizer), "training", context), chunks_of(heldout, "held-out", context)};
  for (const Document& document : heldout) texts.heldout_tokens += std::ssize(document.ids);
  return texts;
}

// A teacher over some of its tokens, and the text in these.
struct School {
  std::shared_ptr<Decoder> teacher;
  Texts texts;
  double lengthening = 1;      // tokens of the held-out text, for each one of the whole teacher's
  double vocabulary_cost = 0;  // nats per token of the whole teacher's
};

TrainerOptions trainer_options(const RetrainOptions& options) {
  TrainerOptions trainer;
  trainer.steps = options.steps();
  trainer.batch = options.batch;
  trainer.context = options.context;
  trainer.schedule.peak = options.rate;
  trainer.schedule.warmup = trainer.steps / 10;
  return trainer;
}

class Search {
 public:
  Search(const Cutter& cutter, const SearchText& text, const HfOptions& stored, const RetrainOptions& options, const WorkFolder* work)
      : cutter_(cutter), text_(text), stored_(stored), options_(options), store_(work), device_(parse_device(options.device)) {
    attend(cutter.teacher.config.vocab_size);
    whole_tokens_ = school_.texts.heldout_tokens;
    whole_targets_ = targets_of(school_.texts.heldout);
  }

  Ranking run(const std::vector<StudentShape>& shapes) {
    Ranking ranking;
    ranking.steps = options_.steps();
    ranking.tokens = ranking.steps * options_.batch * options_.context;
    ranking.heldout_tokens = whole_targets_;
    note(cat(shapes.size(), " candidates: each learns from ", ranking.tokens, " tokens and is judged on ", ranking.heldout_tokens, " others"));
    const std::size_t finished = take_finished(shapes, ranking);
    Progress progress("retrain", static_cast<std::uint64_t>(ranking.tokens + 2 * ranking.heldout_tokens) * (shapes.size() - finished), "tokens");
    for (std::size_t index = finished; index < shapes.size(); ++index) {
      const StudentShape& shape = shapes[index];
      if (shape.vocabulary != school_.teacher->config().vocab_size) attend_part(shape.vocabulary);
      const Checkpoint student = cutter_.student(shape);
      const auto decoder = load_decoder(student, device_);
      TriedShape candidate{shape, student.parameter_count(), hf_bytes(student, stored_), school_.vocabulary_cost, 0, 0};
      retrain(*decoder, cat("candidate ", index + 1, " of ", shapes.size()), progress, candidate);
      const std::optional<std::size_t> before = best_;
      const bool best = rank(index, candidate, ranking);
      if (best) ranking.best = candidate.retrained() ? to_checkpoint(*decoder, student.tokenizer) : student;
      store_.keep(index, candidate, best && candidate.retrained() ? decoder.get() : nullptr);
      if (best && before) store_.keep(*before, ranking.candidates.at(1), nullptr);  // its weights are of no use any more
    }
    if (!ranking.candidates.front().retrained())
      warn("[prune] the best candidate was better as it was cut than retrained, and is written so; a lower --retrain-lr or more tokens "
           "to --retrain may help");
    return ranking;
  }

 private:
  // Those at the beginning that an interrupted search has kept; how many.
  std::size_t take_finished(const std::vector<StudentShape>& shapes, Ranking& ranking) {
    std::size_t index = 0;
    for (; index < shapes.size(); ++index) {
      const auto candidate = store_.find(index, shapes[index]);
      if (!candidate) break;
      rank(index, *candidate, ranking);
    }
    if (index == 0) return 0;
    const TriedShape& best = ranking.candidates.front();
    ranking.best = cutter_.student(best.shape);
    if (best.retrained()) {
      const auto decoder = load_decoder(ranking.best, device_);
      store_.load_weights(*best_, *decoder);
      ranking.best = to_checkpoint(*decoder, ranking.best.tokenizer);
    }
    note(cat(index, " candidates were finished before and are not retrained"));
    return index;
  }

  // Puts a candidate where it belongs; whether it is the best now.
  bool rank(std::size_t index, const TriedShape& candidate, Ranking& ranking) {
    const auto worse = [&](const TriedShape& other) { return candidate.kl() < other.kl(); };
    const auto place = std::find_if(ranking.candidates.begin(), ranking.candidates.end(), worse);
    const bool best = place == ranking.candidates.begin();
    ranking.candidates.insert(place, candidate);
    if (best) best_ = index;
    return best;
  }

  void retrain(Decoder& student, const std::string& label, Progress& progress, TriedShape& candidate) {
    const auto data = shuffled_chunks(school_.texts.training, options_.seed);
    Trainer trainer(student, school_.teacher.get(), *data, trainer_options(options_));
    const auto divergence = [&](const char* when) {
      const double kl = held_out_kl(trainer, cat(label, when, "retraining"), progress) * school_.lengthening + school_.vocabulary_cost;
      if (!std::isfinite(kl))
        fail("[prune] ", label, ": its held-out KL", when, "retraining is no finite number; lower --retrain-lr or look at the model");
      return kl;
    };
    candidate.kl_before = divergence(" before ");
    while (trainer.done() < options_.steps()) {
      const StepReport report = trainer.step();
      progress.advance(static_cast<std::uint64_t>(trainer.step_tokens()), cat(label, ", KL ", std::round(1000 * report.divergence) / 1000));
    }
    candidate.kl_after = divergence(" after ");
  }

  // A batch at a time, which shows how far it is.
  double held_out_kl(Trainer& trainer, const std::string& label, Progress& progress) const {
    const std::vector<Chunk>& chunks = school_.texts.heldout;
    double sum = 0;
    std::int64_t tokens = 0;
    for (std::size_t begin = 0; begin < chunks.size(); begin += static_cast<std::size_t>(options_.batch)) {
      const auto end = std::min(begin + static_cast<std::size_t>(options_.batch), chunks.size());
      const Evaluation part = trainer.evaluate({chunks.begin() + static_cast<std::ptrdiff_t>(begin), chunks.begin() + static_cast<std::ptrdiff_t>(end)});
      sum += part.kl * static_cast<double>(part.tokens);
      tokens += part.tokens;
      const std::int64_t counted = std::min(tokens, whole_targets_);  // the text is a little longer in fewer tokens
      progress.advance(static_cast<std::uint64_t>(counted - std::min(tokens - part.tokens, whole_targets_)), label);
    }
    return sum / static_cast<double>(tokens);
  }

  void attend(std::int64_t vocabulary) {
    school_ = {};  // gives its memory back first
    const Checkpoint teacher = cutter_.over(vocabulary);
    school_.texts = texts_of(text_, teacher.tokenizer, options_.context);
    school_.teacher = load_decoder(teacher, device_);
    for (auto& parameter : school_.teacher->parameters()) parameter.set_requires_grad(false);
  }

  // Over a part of the tokens: its texts are longer, and what the teacher says of them is less.
  void attend_part(std::int64_t vocabulary) {
    if (!whole_loss_) whole_loss_ = held_out_loss(*school_.teacher, school_.texts.heldout, options_.batch);  // the first is the whole one
    attend(vocabulary);
    school_.lengthening = static_cast<double>(school_.texts.heldout_tokens) / static_cast<double>(whole_tokens_);
    school_.vocabulary_cost =
        held_out_loss(*school_.teacher, school_.texts.heldout, options_.batch) * school_.lengthening - *whole_loss_;
  }

  const Cutter& cutter_;
  const SearchText& text_;
  const HfOptions& stored_;
  const RetrainOptions& options_;
  CandidateStore store_;
  std::optional<std::size_t> best_;  // number of the best candidate so far
  at::Device device_;
  School school_;
  std::int64_t whole_tokens_ = 0, whole_targets_ = 0;  // of the held-out text, in all the teacher's tokens
  std::optional<double> whole_loss_;
};

}  // namespace

Ranking retrain_and_rank(const Cutter& cutter, const std::vector<StudentShape>& shapes, const SearchText& text, const HfOptions& stored,
                         const RetrainOptions& options, const WorkFolder* work) {
  if (shapes.empty()) fail("[prune] there is no candidate to retrain");
  return Search(cutter, text, stored, options, work).run(shapes);
}

}  // namespace attar
