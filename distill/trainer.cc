#include "distill/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/console.h"
#include "base/error.h"
#include "distill/checkpointing.h"
#include "distill/train_state.h"
#include "distill/vocabulary_loss.h"

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

// (batch * time, hidden_size), normed: what the output projection takes.
at::Tensor hidden_rows(Decoder& model, const at::Tensor& ids) {
  const at::Tensor h = model.hidden_states(ids);
  return h.reshape({-1, h.size(-1)});
}

}  // namespace

// Inputs and targets of chunks.
struct Trainer::Batch {
  at::Tensor ids, targets;  // (batch, time), (batch * time)
};

Trainer::Batch Trainer::make_batch(const std::vector<Ids>& chunks) const {
  const auto count = static_cast<std::int64_t>(chunks.size()), length = static_cast<std::int64_t>(chunks.front().size());
  at::Tensor all = at::empty({count, length}, at::kLong);
  auto* out = all.data_ptr<std::int64_t>();
  for (const Ids& chunk : chunks) {
    if (static_cast<std::int64_t>(chunk.size()) != length)
      fail("[distill] chunks of ", length, " and ", chunk.size(), " tokens in one batch");
    out = std::copy(chunk.begin(), chunk.end(), out);
  }
  all = all.to(student_.device());
  return {all.narrow(1, 0, length - 1).contiguous(), all.narrow(1, 1, length - 1).reshape({-1})};
}

void check_options(const TrainerOptions& o) {
  const auto positive = [](std::int64_t value, const char* what) {
    if (value < 1) fail("[distill] ", what, " is ", value, "; it must be at least 1");
  };
  positive(o.steps, "steps");
  positive(o.batch, "batch");
  positive(o.context, "context");
  if (o.micro_batch < 0) fail("[distill] micro-batch is ", o.micro_batch, "; it must be 0 (the whole batch) or more");
  if (!(o.loss.temperature > 0)) fail("[distill] temperature is ", o.loss.temperature, "; it must be above 0");
  if (!(o.loss.alpha >= 0 && o.loss.alpha <= 1)) fail("[distill] alpha is ", o.loss.alpha, "; it must be from 0 to 1");
  if (!(o.schedule.peak > 0)) fail("[distill] the learning rate is ", o.schedule.peak, "; it must be above 0");
  if (o.schedule.warmup < 0 || o.schedule.warmup >= o.steps)
    fail("[distill] a warm-up of ", o.schedule.warmup, " steps does not fit into ", o.steps, " steps");
  if (!(o.clip >= 0)) fail("[distill] clip is ", o.clip, "; it must be 0 (never) or above");
  if (!(o.ema >= 0 && o.ema < 1)) fail("[distill] ema is ", o.ema, "; it must be from 0 (none) to below 1");
  if (!(o.adamw.weight_decay >= 0)) fail("[distill] weight decay is ", o.adamw.weight_decay, "; it must not be negative");
}

Trainer::Trainer(Decoder& student, Decoder* teacher, ChunkSource& data, const TrainerOptions& options, const LogitCache* cache)
    : student_(student), teacher_(teacher), cache_(cache), data_(data), options_(checked(options)), parameters_(student),
      optimizer_(parameters_, options_.adamw), position_(data.position()) {
  if (options_.ema > 0) average_ = parameters_.values().clone();
  check_context(student, options_.context, "student");
  if (teacher_ != nullptr) check_context(*teacher_, options_.context, "teacher");
}

// What the teacher says of the batch's rows, whichever way it is known.
TeacherOfRows Trainer::teacher_rows(const std::vector<Ids>& chunks, const Batch& batch, double temperature) const {
  if (cache_ != nullptr) {
    const TeacherRows all = cache_->rows(chunks, temperature, student_.device());
    return [all](std::int64_t begin, std::int64_t count) { return all.narrow(begin, count); };
  }
  if (teacher_ == nullptr) return [](std::int64_t, std::int64_t) { return TeacherRows{}; };
  const at::NoGradGuard no_grad;
  return [h = hidden_rows(*teacher_, batch.ids), head = output_head(*teacher_)](std::int64_t begin, std::int64_t count) {
    return TeacherRows{head_logits(head, h.narrow(0, begin, count)), {}, {}, {}};
  };
}

LossSums Trainer::accumulate(const std::vector<Ids>& chunks, std::int64_t total_targets) {
  const at::Device device = student_.device();
  const Batch batch = make_batch(chunks);
  const TeacherOfRows teacher = teacher_rows(chunks, batch, options_.loss.temperature);
  Backbone backbone(student_, options_.checkpoint_activations);
  const at::Tensor h = backbone.forward(batch.ids);
  const OutputHead head = output_head(student_);
  at::Tensor h_gradient = at::empty_like(h);
  at::Tensor W_gradient = student_.parameter(head.name).grad();
  const LossSums sums = vocabulary_loss(h, head, teacher, batch.targets, options_.loss, 1.0 / static_cast<double>(total_targets),
                                        logit_rows(device, head.W.size(0)), h_gradient, W_gradient);
  backbone.backward(h_gradient);
  return sums;
}

StepReport Trainer::step() {
  parameters_.gradients().zero_();
  const std::int64_t targets = step_tokens();
  LossSums sums = zero_sums(at::device(student_.device()));
  for (std::int64_t begin = 0; begin < options_.batch; begin += options_.micro_batch) {
    check_interrupt();
    std::vector<Ids> chunks;
    for (std::int64_t i = begin; i < std::min(begin + options_.micro_batch, options_.batch); ++i)
      chunks.push_back(data_.next());
    sums += accumulate(chunks, targets);
  }
  const at::Tensor norm = parameters_.gradients().norm().to(at::kDouble);
  const at::Tensor numbers =  // one transfer from the device for all
      (at::stack({sums.total, sums.cross_entropy, sums.divergence, norm * static_cast<double>(targets)}) /
       static_cast<double>(targets)).cpu();
  const auto* number = numbers.data_ptr<double>();
  StepReport report{done_ + 1, number[0], number[1], number[2], number[3], learning_rate(options_.schedule, done_)};
  if (std::isfinite(report.loss) && std::isfinite(report.gradient_norm)) {
    const bool clip = options_.clip > 0 && report.gradient_norm > options_.clip;
    optimizer_.step(report.rate, clip ? options_.clip / report.gradient_norm : 1.0);
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

Evaluation Trainer::evaluate(const std::vector<Ids>& chunks) {
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

Evaluation Trainer::evaluate_weights(const std::vector<Ids>& chunks) {
  const at::NoGradGuard no_grad;
  LossSums zero = zero_sums(at::device(student_.device()));
  AgreementSums sums{zero.cross_entropy, zero.divergence, zero.total};
  Evaluation result;
  const auto group = static_cast<std::size_t>(options_.micro_batch);
  const OutputHead head = output_head(student_);
  const std::int64_t step = logit_rows(student_.device(), head.W.size(0));
  for (std::size_t begin = 0; begin < chunks.size(); begin += group) {
    check_interrupt();
    const std::vector<Ids> part(chunks.begin() + static_cast<std::ptrdiff_t>(begin),
                                chunks.begin() + static_cast<std::ptrdiff_t>(std::min(begin + group, chunks.size())));
    const Batch batch = make_batch(part);
    const TeacherOfRows teacher = teacher_rows(part, batch, 1.0);
    const at::Tensor h = hidden_rows(student_, batch.ids);
    for (std::int64_t row = 0; row < h.size(0); row += step) {
      const std::int64_t count = std::min(step, h.size(0) - row);
      sums += agreement(head_logits(head, h.narrow(0, row, count)), teacher(row, count), batch.targets.narrow(0, row, count));
    }
    result.tokens += batch.targets.numel();
  }
  if (result.tokens == 0) fail("[distill] nothing is held out to evaluate on");
  const auto count = static_cast<double>(result.tokens);
  result.cross_entropy = sums.cross_entropy.item<double>() / count;
  result.kl = sums.kl.item<double>() / count;
  result.same_top = sums.same_top.item<double>() / count;
  return result;
}

void Trainer::save(const std::filesystem::path& file, const nlohmann::json& run, const nlohmann::json& notes) const {
  write_train_state(file, parameters_, optimizer_, average_, {done_, bad_, position_, run, notes});
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
  write_weights(file, parameters_, average_.defined() ? average_ : parameters_.values());
}

void Trainer::load_weights(const std::filesystem::path& file) { read_weights(file, parameters_, parameters_.values()); }

void Trainer::finish() { exchange(); }

}  // namespace attar
