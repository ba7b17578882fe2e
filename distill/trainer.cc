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
  Packing packing;
  bool packed = false;
};

// Which text of its chunk each input belongs to, and where in it.
Packing packing_of(const std::vector<Chunk>& chunks, std::int64_t time) {
  Packing packing{at::zeros({std::ssize(chunks), time}, at::kLong), at::zeros({std::ssize(chunks), time}, at::kLong), 0};
  auto *document = packing.document.data_ptr<std::int64_t>(), *position = packing.position.data_ptr<std::int64_t>();
  for (const Chunk& chunk : chunks) {
    std::int64_t number = 0, begin = 0;
    auto next = chunk.starts.begin();
    for (std::int64_t i = 0; i < time; ++i) {
      if (next != chunk.starts.end() && *next == i) ++number, begin = i, ++next;
      *document++ = number;
      *position++ = i - begin;
      packing.longest = std::max(packing.longest, i - begin + 1);
    }
  }
  return packing;
}

Batch make_batch(const std::vector<Chunk>& chunks, const at::Device& device) {
  const auto count = std::ssize(chunks), length = std::ssize(chunks.front().ids);
  at::Tensor all = at::empty({count, length}, at::kLong), wanted = at::empty({count, length}, at::kLong);
  auto *ids = all.data_ptr<std::int64_t>(), *targets = wanted.data_ptr<std::int64_t>();
  bool packed = false;
  for (const Chunk& chunk : chunks) {
    if (std::ssize(chunk.ids) != length)
      fail("[distill] chunks of ", length, " and ", chunk.ids.size(), " tokens in one batch");
    for (std::size_t i = 0; i < chunk.ids.size(); ++i) {
      *ids++ = chunk.ids[i];
      *targets++ = chunk.learn.empty() || chunk.learn[i] != 0 ? chunk.ids[i] : kIgnoredTarget;
    }
    packed = packed || !chunk.starts.empty();
  }
  Batch batch{all.narrow(1, 0, length - 1).contiguous().to(device),
              wanted.narrow(1, 1, length - 1).reshape({-1}).to(device), {}, packed};
  if (packed) {
    batch.packing = packing_of(chunks, length - 1);
    batch.packing.document = batch.packing.document.to(device);
    batch.packing.position = batch.packing.position.to(device);
  }
  return batch;
}

// Tells models how a batch is packed for as long as it lives.
class Packed {
 public:
  Packed(const Batch& batch, std::initializer_list<Decoder*> models) : models_(models) {
    for (Decoder* model : models_)
      if (model != nullptr && batch.packed) model->packing = &batch.packing;
  }
  ~Packed() {
    for (Decoder* model : models_)
      if (model != nullptr) model->packing = nullptr;
  }
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;

 private:
  std::vector<Decoder*> models_;
};

std::int64_t targets_of(const std::vector<Chunk>& chunks) {
  std::int64_t count = 0;
  for (const Chunk& chunk : chunks) count += attar::targets_of(chunk);
  return count;
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
  if (!(o.adamw.weight_decay >= 0)) fail("[distill] weight decay is ", o.adamw.weight_decay, "; it must not be negative");
}

Trainer::Trainer(Decoder& student, Decoder* teacher, ChunkSource& data, const TrainerOptions& options, ProcessGroup* group)
    : student_(student), teacher_(teacher), data_(data), options_(checked(options)), group_(group), parameters_(student),
      optimizer_(make_optimizer(parameters_, options_.adamw, group)), position_(data.position()) {
  if (group_ != nullptr && options_.batch < group_->size())
    fail("[distill] a batch of ", options_.batch, " chunks is too small for ", group_->size(), " processes; raise --batch");
  if (options_.on_policy.lambda > 0 && (teacher_ == nullptr || options_.loss.alpha > 0))
    fail("[distill] on-policy: the student's own words are judged by a teacher only; give --teacher and --alpha 0");
  check_context(student, options_.context, "student");
  if (teacher_ != nullptr) check_context(*teacher_, options_.context, "teacher");
}

LossSums Trainer::accumulate(const std::vector<Chunk>& chunks, std::int64_t total_targets) {
  const at::Device device = student_.device();
  const Batch batch = make_batch(chunks, device);
  const Packed packed(batch, {&student_, teacher_});
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

std::vector<Chunk> Trainer::own_share() {
  const std::int64_t rank = group_ != nullptr ? group_->rank() : 0, size = group_ != nullptr ? group_->size() : 1;
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

// Several processes stop together, after a step: one alone would leave the others waiting in the middle of theirs.
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
  const at::Device device = student_.device();
  parameters_.gradients().zero_();
  const std::vector<Chunk> share = own_share();
  at::Tensor count = at::full({1}, static_cast<double>(targets_of(share)), at::kDouble);
  add_up(count);
  const double targets = count.item<double>();
  LossSums sums = zero_sums(device);
  for (std::size_t begin = 0; begin < share.size(); begin += static_cast<std::size_t>(options_.micro_batch)) {
    check_interrupt_here();
    const std::size_t end = std::min(begin + static_cast<std::size_t>(options_.micro_batch), share.size());
    const LossSums part = accumulate({share.begin() + static_cast<std::ptrdiff_t>(begin), share.begin() + static_cast<std::ptrdiff_t>(end)},
                                     static_cast<std::int64_t>(targets));
    sums.total += part.total;
    sums.cross_entropy += part.cross_entropy;
    sums.kl += part.kl;
  }
  add_up(parameters_.gradients());
  at::Tensor totals = at::stack({sums.total, sums.cross_entropy, sums.kl});
  add_up(totals);
  const at::Tensor norm = parameters_.gradients().norm().to(at::kDouble);
  const at::Tensor numbers = (at::cat({totals, (norm * targets).unsqueeze(0)}) / targets).cpu();  // one transfer for all
  const auto* number = numbers.data_ptr<double>();
  StepReport report{done_ + 1, number[0], number[1], number[2], number[3], learning_rate(options_.schedule, done_)};
  if (std::isfinite(report.loss) && std::isfinite(report.gradient_norm)) {
    const bool clip = options_.clip > 0 && report.gradient_norm > options_.clip;
    optimizer_.step(report.rate, clip ? options_.clip / report.gradient_norm : 1.0);
    share_slices(parameters_.values());
    bad_ = 0;
  } else {
    report.skipped = true;
    if (++bad_ >= options_.bad_steps)
      fail("[distill] step ", report.step, ": loss or gradient was not a finite number ", bad_,
           " steps in a row; lower --lr, raise --warmup or look at the data and the student's weights");
  }
  position_ = data_.position();
  ++done_;
  check_interrupt_of_all();
  return report;
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

AdamW Trainer::whole_optimizer() const {
  AdamW all(const_cast<FlatParameters&>(parameters_), options_.adamw);
  all.steps = optimizer_.steps;
  for (const auto& [to, from] : {std::pair(all.m, optimizer_.m), std::pair(all.v, optimizer_.v)}) {
    at::Tensor place = to.narrow(0, optimizer_.begin(), optimizer_.end() - optimizer_.begin());
    place.copy_(from);
    share_slices(to);
  }
  return all;
}

Evaluation Trainer::evaluate(const std::vector<Chunk>& all) {
  const at::NoGradGuard no_grad;
  std::vector<Chunk> chunks;
  for (std::size_t i = group_ != nullptr ? static_cast<std::size_t>(group_->rank()) : 0; i < all.size();
       i += group_ != nullptr ? static_cast<std::size_t>(group_->size()) : 1)
    chunks.push_back(all[i]);
  const at::Device device = student_.device();
  at::Tensor cross_entropy = at::zeros({}, at::device(device).dtype(at::kDouble));
  at::Tensor kl = cross_entropy.clone(), same_top = cross_entropy.clone();
  Evaluation result;
  const auto group = static_cast<std::size_t>(options_.micro_batch);
  const std::int64_t step = logit_rows(student_);
  for (std::size_t begin = 0; begin < chunks.size(); begin += group) {
    check_interrupt_here();
    const std::vector<Chunk> part(chunks.begin() + static_cast<std::ptrdiff_t>(begin),
                                chunks.begin() + static_cast<std::ptrdiff_t>(std::min(begin + group, chunks.size())));
    const Batch batch = make_batch(part, device);
    const Packed packed(batch, {&student_, teacher_});
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
    result.tokens += targets_of(part);
  }
  at::Tensor totals = at::stack({cross_entropy, kl, same_top, at::full_like(kl, static_cast<double>(result.tokens))}).cpu();
  add_up(totals);
  const auto* total = totals.data_ptr<double>();
  const double count = total[3];
  if (count == 0) fail("[distill] nothing is held out to evaluate on");
  result = {total[0] / count, total[1] / count, total[2] / count, static_cast<std::int64_t>(count)};
  return result;
}

void Trainer::save(const std::filesystem::path& file, const nlohmann::json& run) const {
  const TrainProgress progress{done_, bad_, position_, run};
  if (group_ == nullptr) return write_train_state(file, parameters_, optimizer_, progress);
  const AdamW all = whole_optimizer();
  if (group_->rank() == 0) write_train_state(file, parameters_, all, progress);
}

void Trainer::resume(const std::filesystem::path& file, const nlohmann::json& run) {
  TrainProgress progress;
  if (group_ == nullptr) {
    progress = read_train_state(file, parameters_, optimizer_, run);
  } else {
    AdamW all(parameters_, options_.adamw);
    progress = read_train_state(file, parameters_, all, run);
    const at::NoGradGuard no_grad;
    optimizer_.steps = all.steps;
    optimizer_.m.copy_(all.m.narrow(0, optimizer_.begin(), optimizer_.m.numel()));
    optimizer_.v.copy_(all.v.narrow(0, optimizer_.begin(), optimizer_.v.numel()));
  }
  data_.seek(progress.position);
  position_ = progress.position;
  done_ = progress.done;
  bad_ = progress.bad;
}

}  // namespace attar
