#include "distill/trainer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/console.h"
#include "base/error.h"
#include "distill/train_state.h"

namespace attar {
namespace {

// Logits are made for as many rows at a time as give this many numbers, so that memory does not grow with the batch.
constexpr std::int64_t kLogitsOnCpu = std::int64_t{1} << 23, kLogitsOnDevice = std::int64_t{1} << 28;

// Inputs and targets of chunks: ids (batch, time), targets (batch * time).
struct Batch {
  at::Tensor ids, targets;
};

Batch make_batch(const std::vector<Ids>& chunks, const at::Device& device) {
  const auto count = static_cast<std::int64_t>(chunks.size()), length = static_cast<std::int64_t>(chunks.front().size());
  at::Tensor all = at::empty({count, length}, at::kLong);
  auto* out = all.data_ptr<std::int64_t>();
  for (const Ids& chunk : chunks) {
    if (static_cast<std::int64_t>(chunk.size()) != length)
      fail("[distill] chunks of ", length, " and ", chunk.size(), " tokens in one batch");
    out = std::copy(chunk.begin(), chunk.end(), out);
  }
  all = all.to(device);
  return {all.narrow(1, 0, length - 1).contiguous(), all.narrow(1, 1, length - 1).reshape({-1})};
}

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

std::int64_t logit_rows(const Decoder& model) {
  return std::max<std::int64_t>((model.device().is_cpu() ? kLogitsOnCpu : kLogitsOnDevice) / model.config().vocab_size, 64);
}

LossSums zero_sums(const at::Device& device) {
  const auto zero = [&] { return at::zeros({}, at::device(device).dtype(at::kDouble)); };
  return {zero(), zero(), zero()};
}

}  // namespace

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
  if (!(o.adamw.weight_decay >= 0)) fail("[distill] weight decay is ", o.adamw.weight_decay, "; it must not be negative");
}

Trainer::Trainer(Decoder& student, Decoder* teacher, ChunkSource& data, const TrainerOptions& options)
    : student_(student), teacher_(teacher), data_(data), options_(checked(options)), parameters_(student),
      optimizer_(parameters_, options_.adamw), position_(data.position()) {
  check_context(student, options_.context, "student");
  if (teacher_ != nullptr) check_context(*teacher_, options_.context, "teacher");
}

LossSums Trainer::accumulate(const std::vector<Ids>& chunks, std::int64_t total_targets) {
  const at::Device device = student_.device();
  const Batch batch = make_batch(chunks, device);
  const at::Tensor h = hidden_rows(student_, batch.ids);
  at::Tensor h_teacher;
  if (teacher_ != nullptr) {
    const at::NoGradGuard no_grad;
    h_teacher = hidden_rows(*teacher_, batch.ids);
  }
  // The output projection, the loss and their gradients go through in groups of rows: the logits never exist whole.
  const at::Tensor h_leaf = h.detach().set_requires_grad(true);
  h_leaf.mutable_grad() = at::zeros_like(h);
  LossSums sums = zero_sums(device);
  const std::int64_t step = logit_rows(student_);
  for (std::int64_t row = 0; row < h.size(0); row += step) {
    const std::int64_t count = std::min(step, h.size(0) - row);
    at::Tensor v;
    if (teacher_ != nullptr) {
      const at::NoGradGuard no_grad;
      v = teacher_->logits(h_teacher.narrow(0, row, count));
    }
    const at::Tensor z = student_.logits(h_leaf.narrow(0, row, count));
    const LossSums part = distillation_loss(z, v, batch.targets.narrow(0, row, count), options_.loss);
    (part.total / static_cast<double>(total_targets)).backward();
    sums.total += part.total.detach();
    sums.cross_entropy += part.cross_entropy;
    sums.kl += part.kl;
  }
  h.backward(h_leaf.grad());
  return sums;
}

StepReport Trainer::step() {
  const at::Device device = student_.device();
  parameters_.gradients().zero_();
  const std::int64_t targets = step_tokens();
  LossSums sums = zero_sums(device);
  for (std::int64_t begin = 0; begin < options_.batch; begin += options_.micro_batch) {
    check_interrupt();
    std::vector<Ids> chunks;
    for (std::int64_t i = begin; i < std::min(begin + options_.micro_batch, options_.batch); ++i)
      chunks.push_back(data_.next());
    const LossSums part = accumulate(chunks, targets);
    sums.total += part.total;
    sums.cross_entropy += part.cross_entropy;
    sums.kl += part.kl;
  }
  const at::Tensor norm = parameters_.gradients().norm().to(at::kDouble);
  const at::Tensor numbers =  // one transfer from the device for all
      (at::stack({sums.total, sums.cross_entropy, sums.kl, norm * static_cast<double>(targets)}) /
       static_cast<double>(targets)).cpu();
  const auto* number = numbers.data_ptr<double>();
  StepReport report{done_ + 1, number[0], number[1], number[2], number[3], learning_rate(options_.schedule, done_)};
  if (std::isfinite(report.loss) && std::isfinite(report.gradient_norm)) {
    const bool clip = options_.clip > 0 && report.gradient_norm > options_.clip;
    optimizer_.step(report.rate, clip ? options_.clip / report.gradient_norm : 1.0);
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

Evaluation Trainer::evaluate(const std::vector<Ids>& chunks) {
  const at::NoGradGuard no_grad;
  const at::Device device = student_.device();
  at::Tensor cross_entropy = at::zeros({}, at::device(device).dtype(at::kDouble));
  at::Tensor kl = cross_entropy.clone(), same_top = cross_entropy.clone();
  Evaluation result;
  const auto group = static_cast<std::size_t>(options_.micro_batch);
  const std::int64_t step = logit_rows(student_);
  for (std::size_t begin = 0; begin < chunks.size(); begin += group) {
    check_interrupt();
    const std::vector<Ids> part(chunks.begin() + static_cast<std::ptrdiff_t>(begin),
                                chunks.begin() + static_cast<std::ptrdiff_t>(std::min(begin + group, chunks.size())));
    const Batch batch = make_batch(part, device);
    const at::Tensor h = hidden_rows(student_, batch.ids);
    const at::Tensor h_teacher = teacher_ != nullptr ? hidden_rows(*teacher_, batch.ids) : at::Tensor();
    for (std::int64_t row = 0; row < h.size(0); row += step) {
      const std::int64_t count = std::min(step, h.size(0) - row);
      const at::Tensor v = teacher_ != nullptr ? teacher_->logits(h_teacher.narrow(0, row, count)) : at::Tensor();
      const AgreementSums sums = agreement(student_.logits(h.narrow(0, row, count)), v,
                                           batch.targets.narrow(0, row, count));
      cross_entropy += sums.cross_entropy;
      kl += sums.kl;
      same_top += sums.same_top;
    }
    result.tokens += batch.targets.numel();
  }
  if (result.tokens == 0) fail("[distill] nothing is held out to evaluate on");
  const auto count = static_cast<double>(result.tokens);
  result.cross_entropy = cross_entropy.item<double>() / count;
  result.kl = kl.item<double>() / count;
  result.same_top = same_top.item<double>() / count;
  return result;
}

void Trainer::save(const std::filesystem::path& file, const nlohmann::json& run) const {
  write_train_state(file, parameters_, optimizer_, {done_, bad_, position_, run});
}

void Trainer::resume(const std::filesystem::path& file, const nlohmann::json& run) {
  const TrainProgress progress = read_train_state(file, parameters_, optimizer_, run);
  data_.seek(progress.position);
  position_ = progress.position;
  done_ = progress.done;
  bad_ = progress.bad;
}

}  // namespace attar
