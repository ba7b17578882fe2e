#include "distill/trainer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "distill/train_state.h"
#include "distill/training_pass.h"

namespace attar {
namespace {

void check_context(const Decoder& model, std::int64_t context, const char* who) {
  if (context > model.config().max_positions)
    fail("[distill] context ", context, ": the ", who, " can see only ", model.config().max_positions,
         " tokens (max_position_embeddings)");
}

TrainerOptions checked(TrainerOptions options) {
  check_options(options);
  options.schedule.steps = options.steps;
  if (options.micro_batch == 0 || options.micro_batch > options.batch) options.micro_batch = options.batch;
  return options;
}

// (batch, time, hidden_size) -> (batch * time, hidden_size)
at::Tensor rows_of(const at::Tensor& hidden) { return hidden.reshape({-1, hidden.size(-1)}); }

std::unique_ptr<Matching> make_matching(const MatchOptions& options, const Decoder& student, const Decoder* teacher) {
  if (!options.on()) return nullptr;
  if (teacher == nullptr) fail("[distill] hidden states and attention are matched with those of a teacher that runs along; there is none");
  return std::make_unique<Matching>(options, student.config(), teacher->config(), student.device());
}

AdamW make_optimizer(FlatParameters& parameters, const AdamWOptions& options, const ProcessGroup* group) {
  if (group == nullptr) return {parameters, options};
  const auto [begin, end] = group->slice(parameters.values().numel(), group->rank());
  return {parameters, options, begin, end};
}

}  // namespace

void check_options(const TrainerOptions& o) {
  const auto positive = [](std::int64_t value, const char* what) {
    if (value < 1) fail("[distill] ", what, " is ", value, "; it must be at least 1");
  };
  positive(o.steps, "steps");
  positive(o.batch, "batch");
  positive(o.context, "context");
  if (!(o.on_policy.lambda >= 0 && o.on_policy.lambda <= 1))
    fail("[distill] on-policy is ", o.on_policy.lambda, "; it must be from 0 to 1");
  if (o.micro_batch < 0) fail("[distill] micro-batch is ", o.micro_batch, "; it must be 0 (the whole batch) or more");
  if (!(o.loss.temperature > 0)) fail("[distill] temperature is ", o.loss.temperature, "; it must be above 0");
  if (!(o.loss.alpha >= 0 && o.loss.alpha <= 1)) fail("[distill] alpha is ", o.loss.alpha, "; it must be from 0 to 1");
  if (!(o.schedule.peak > 0)) fail("[distill] the learning rate is ", o.schedule.peak, "; it must be above 0");
  if (o.schedule.warmup < 0 || o.schedule.warmup >= o.steps)
    fail("[distill] a warm-up of ", o.schedule.warmup, " steps does not fit into ", o.steps, " steps");
  if (!(o.clip >= 0)) fail("[distill] clip is ", o.clip, "; it must be 0 (never) or above");
  if (!(o.ema >= 0 && o.ema < 1)) fail("[distill] ema is ", o.ema, "; it must be from 0 (none) to below 1");
  if (!(o.adamw.weight_decay >= 0)) fail("[distill] weight decay is ", o.adamw.weight_decay, "; it must not be negative");
  check_options(o.match);
}

Trainer::Trainer(Decoder& student, Decoder* teacher, ChunkSource& data, const TrainerOptions& options, const LogitCache* cache,
                 ProcessGroup* group)
    : student_(student), teacher_(teacher), cache_(cache), data_(data), options_(checked(options)), group_(group),
      matching_(make_matching(options_.match, student, teacher)),
      parameters_(student, matching_ ? matching_->parameters() : NamedTensors{}),
      optimizer_(make_optimizer(parameters_, options_.adamw, group)), position_(data.position()) {
  if (group_ != nullptr && options_.batch < group_->size())
    fail("[distill] a batch of ", options_.batch, " chunks is too small for ", group_->size(), " processes; raise --batch");
  if (options_.on_policy.lambda > 0 && (teacher_ == nullptr || options_.loss.alpha > 0))
    fail("[distill] on-policy: the student's own words are judged by a teacher only; give --teacher and --alpha 0");
  student_.compute = options_.compute;
  if (teacher_ != nullptr) teacher_->compute = options_.compute;
  if (options_.ema > 0) average_ = parameters_.values().clone();
  check_context(student, options_.context, "student");
  if (teacher_ != nullptr) check_context(*teacher_, options_.context, "teacher");
}

// What the teacher says of the batch's rows, whichever way it is known.
TeacherOfRows Trainer::teacher_rows(const std::vector<Chunk>& chunks, const Batch& batch, double temperature) const {
  if (cache_ != nullptr) {
    const TeacherRows all = cache_->rows(chunks, temperature, student_.device());
    return [all](std::int64_t begin, std::int64_t count) { return all.narrow(begin, count); };
  }
  if (teacher_ == nullptr) return [](std::int64_t, std::int64_t) { return TeacherRows{}; };
  const at::NoGradGuard no_grad;
  return teacher_of(*teacher_, teacher_->hidden_states(batch.ids));
}

LossSums Trainer::accumulate(const std::vector<Chunk>& chunks, std::int64_t total_targets, GradientSum* sum) {
  const Batch batch = make_batch(chunks, student_.device());
  const Packed packed(batch, {&student_, teacher_});
  const double scale = 1.0 / static_cast<double>(total_targets);
  const TeacherOfRows teacher = matching_ ? teacher_of(*teacher_, matching_->begin(*teacher_, batch, scale))
                                          : teacher_rows(chunks, batch, options_.loss.temperature);
  Backbone backbone(student_, options_.checkpoint_activations, matching_.get());
  LossSums sums = training_pass(student_, backbone, batch, teacher, options_.loss, scale, [sum](std::int64_t layer) {
    if (sum != nullptr) sum->layer_done(layer);
  });
  if (matching_) matching_->end(sums);
  return sums;
}

std::vector<Chunk> Trainer::own_share() {
  const auto [rank, size] = place_in(group_);
  const std::int64_t begin = options_.batch * rank / size, end = options_.batch * (rank + 1) / size;
  std::vector<Chunk> share;
  for (std::int64_t i = 0; i < options_.batch; ++i) {  // all processes go through all data, so all stand at the same place
    Chunk chunk = data_.next();
    if (i >= begin && i < end) share.push_back(std::move(chunk));
  }
  write_own(share, begin);
  return share;
}

void Trainer::write_own(std::vector<Chunk>& share, std::int64_t first) {
  std::vector<std::int64_t> indices;
  std::vector<Chunk*> chunks;
  const auto write = [&] {
    check_interrupt_here();
    write_own_texts(student_, options_.on_policy, done_, indices, chunks);
    indices.clear(), chunks.clear();
  };
  for (std::size_t i = 0; i < share.size(); ++i) {
    const std::int64_t index = first + static_cast<std::int64_t>(i);
    if (!is_on_policy(options_.on_policy, done_, index)) continue;
    indices.push_back(index);
    chunks.push_back(&share[i]);
    if (std::ssize(chunks) == options_.micro_batch) write();
  }
  write();
}

void Trainer::add_up(at::Tensor& values) const {
  if (group_ != nullptr) group_->sum(values);
}

// Several processes stop together, before a step, when the one before is in the log: one alone would leave the others waiting in the middle of theirs.
void Trainer::check_interrupt_here() const {
  if (group_ == nullptr) check_interrupt();
}

void Trainer::check_interrupt_of_all() const {
  if (group_ == nullptr) return;
  at::Tensor stopped = at::zeros({1});
  try {
    check_interrupt();
  } catch (const Interrupted&) {
    stopped += 1;
  }
  group_->sum(stopped);
  if (stopped.item<float>() > 0) throw Interrupted("interrupted");
}

StepReport Trainer::step() {
  check_interrupt_of_all();
  parameters_.gradients().zero_();
  const std::vector<Chunk> share = own_share();
  at::Tensor count = at::full({1}, static_cast<double>(targets_of(share)), at::kDouble);
  add_up(count);
  const double targets = count.item<double>();
  std::optional<GradientSum> sum;
  if (group_ != nullptr) sum.emplace(*group_, parameters_, options_.bucket);
  LossSums sums = zero_sums(at::device(student_.device()));
  for (std::size_t begin = 0; begin < share.size(); begin += static_cast<std::size_t>(options_.micro_batch)) {
    check_interrupt_here();
    const std::size_t end = std::min(begin + static_cast<std::size_t>(options_.micro_batch), share.size());
    sums += accumulate({share.begin() + static_cast<std::ptrdiff_t>(begin), share.begin() + static_cast<std::ptrdiff_t>(end)},
                       static_cast<std::int64_t>(targets), sum && end == share.size() ? &*sum : nullptr);
  }
  if (sum) sum->finish();
  at::Tensor totals = at::stack({sums.total, sums.cross_entropy, sums.divergence, sums.hidden, sums.attention});
  add_up(totals);
  const at::Tensor norm = parameters_.gradients().norm().to(at::kDouble);
  const at::Tensor numbers = (at::cat({totals, (norm * targets).unsqueeze(0)}) / targets).cpu();  // one transfer for all
  const auto* number = numbers.data_ptr<double>();
  StepReport report{done_ + 1, number[0], number[1], number[2], number[3], number[4], number[5],
                    learning_rate(options_.schedule, done_)};
  if (std::isfinite(report.loss) && std::isfinite(report.gradient_norm)) {
    const bool clip = options_.clip > 0 && report.gradient_norm > options_.clip;
    optimizer_.step(report.rate, clip ? options_.clip / report.gradient_norm : 1.0);
    share_slices(parameters_.values());
    update_average();
    bad_ = 0;
  } else {
    report.skipped = true;
    if (++bad_ >= options_.bad_steps)
      fail("[distill] step ", report.step, ": loss or gradient was not a finite number ", bad_,
           " steps in a row; lower --lr, raise --warmup or look at the data and the student's weights");
  }
  position_ = data_.position();
  ++done_;
  return report;
}

// The decay rises with the updates, so that the average does not hang on to where training began.
void Trainer::update_average() {
  if (!average_.defined()) return;
  const at::NoGradGuard no_grad;
  const auto n = static_cast<double>(optimizer_.steps);
  average_.lerp_(parameters_.values(), 1 - std::min(options_.ema, (1 + n) / (10 + n)));
}

void Trainer::exchange() {
  if (!average_.defined()) return;
  const at::NoGradGuard no_grad;
  const at::Tensor weights = parameters_.values().clone();
  parameters_.values().copy_(average_);
  average_.copy_(weights);
}

// Each slice from the process that keeps it up to date.
void Trainer::share_slices(const at::Tensor& flat) const {
  if (group_ == nullptr) return;
  for (std::int64_t rank = 0; rank < group_->size(); ++rank) {
    const auto [begin, end] = group_->slice(flat.numel(), rank);
    at::Tensor slice = flat.narrow(0, begin, end - begin);
    if (end > begin) group_->broadcast(slice, rank);
  }
}

Evaluation Trainer::evaluate(const std::vector<Chunk>& chunks) {
  exchange();
  try {
    const Evaluation result = evaluate_weights(chunks);
    exchange();
    return result;
  } catch (...) {
    exchange();
    throw;
  }
}

Evaluation Trainer::evaluate_weights(const std::vector<Chunk>& all) {
  const at::NoGradGuard no_grad;
  std::vector<Chunk> chunks;
  const auto [rank, size] = place_in(group_);
  for (auto i = static_cast<std::size_t>(rank); i < all.size(); i += static_cast<std::size_t>(size))
    chunks.push_back(all[i]);
  const at::Device device = student_.device();
  AgreementSums sums = zero_agreement(at::device(device));
  Evaluation result;
  const auto group = static_cast<std::size_t>(options_.micro_batch);
  const OutputHead head = output_head(student_);
  const std::int64_t step = logit_rows(student_.device(), head.W.size(0));
  for (std::size_t begin = 0; begin < chunks.size(); begin += group) {
    check_interrupt_here();
    const std::vector<Chunk> part(chunks.begin() + static_cast<std::ptrdiff_t>(begin),
                                chunks.begin() + static_cast<std::ptrdiff_t>(std::min(begin + group, chunks.size())));
    const Batch batch = make_batch(part, device);
    const Packed packed(batch, {&student_, teacher_});
    const TeacherOfRows teacher = teacher_rows(part, batch, 1.0);
    const at::Tensor h = rows_of(student_.hidden_states(batch.ids));
    for (std::int64_t row = 0; row < h.size(0); row += step) {
      const std::int64_t count = std::min(step, h.size(0) - row);
      sums += agreement(head_logits(head, h.narrow(0, row, count)), teacher(row, count), batch.targets.narrow(0, row, count));
    }
    result.tokens += targets_of(part);
  }
  const at::Tensor tokens = at::full_like(sums.kl, static_cast<double>(result.tokens));
  at::Tensor totals = at::stack({sums.cross_entropy, sums.kl, sums.same_top, sums.kl_squares, tokens}).cpu();
  add_up(totals);
  const auto* total = totals.data_ptr<double>();
  const double count = total[4];
  if (count == 0) fail("[distill] nothing is held out to evaluate on");
  const double kl = total[1] / count, variance = std::max(total[3] / count - kl * kl, 0.0);
  return {total[0] / count, kl, total[2] / count, std::sqrt(variance / (count - 1)), static_cast<std::int64_t>(count)};
}

void Trainer::save(const std::filesystem::path& file, const nlohmann::json& run, const nlohmann::json& notes) const {
  const TrainProgress progress{done_, bad_, position_, run, notes};
  write_train_state(file, parameters_, optimizer_, average_, progress, group_);
}

nlohmann::json Trainer::resume(const std::filesystem::path& file, const nlohmann::json& run) {
  const TrainProgress progress = read_train_state(file, parameters_, optimizer_, average_, run);
  data_.seek(progress.position);
  position_ = progress.position;
  done_ = progress.done;
  bad_ = progress.bad;
  return progress.notes;
}

void Trainer::save_weights(const std::filesystem::path& file) const {
  if (place_in(group_).rank > 0) return;
  write_weights(file, parameters_, average_.defined() ? average_ : parameters_.values());
}

void Trainer::load_weights(const std::filesystem::path& file) { read_weights(file, parameters_, parameters_.values()); }

void Trainer::finish() { exchange(); }

}  // namespace attar
