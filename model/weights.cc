// Weights in and out of a decoder.
#include <cmath>
#include <cstring>
#include <numbers>

#include "base/console.h"
#include "base/random.h"
#include "base/threads.h"
#include "model/decoder.h"
#include "runtime/runner.h"

namespace attar {
namespace {

constexpr std::int64_t kSlice = 1 << 20;  // weights read at a time

// Reads the whole tensor into out, rows at a time, and refuses NaN and Inf.
void read_into(const Tensor& tensor, float* out) {
  const std::int64_t rows = tensor.rows(), columns = tensor.columns();
  const std::int64_t step = std::max<std::int64_t>(1, kSlice / std::max<std::int64_t>(1, columns));
  parallel_for((rows + step - 1) / step, [&](std::int64_t slice) {
    const std::int64_t begin = slice * step, end = std::min(rows, begin + step);
    const std::vector<float> values = read_floats(tensor, begin, end);
    for (std::size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        fail("loading the model: tensor '", tensor.name, "' holds ", std::isnan(values[i]) ? "NaN" : "an infinite value",
             " in row ", begin + static_cast<std::int64_t>(i) / columns, "; the file is damaged or its training diverged");
    std::memcpy(out + begin * columns, values.data(), values.size() * sizeof(float));
  });
}

// Two independent normal numbers a draw (Box & Muller 1958).
void fill_normal(Random& random, double deviation, float* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i += 2) {
    const double radius = deviation * std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
    const double angle = 2.0 * std::numbers::pi * random.uniform();
    out[i] = static_cast<float>(radius * std::cos(angle));
    if (i + 1 < count) out[i + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

at::Tensor on_cpu(const at::Tensor& parameter) { return parameter.detach().to(at::kCPU, at::kFloat).contiguous(); }

}  // namespace

void load_parameter(Decoder& decoder, const Checkpoint& checkpoint, const std::string& name) {
  const Tensor& tensor = checkpoint.at(name);
  at::Tensor& parameter = decoder.parameter(name);
  const bool dropped = parameter.numel() == 0;
  if (!dropped && parameter.sizes() != at::IntArrayRef(tensor.shape))
    fail("loading the model: tensor '", name, "' is ", shape_text(tensor.shape), ", expected ",
         shape_text(parameter.sizes().vec()));
  const at::NoGradGuard no_grad;
  const bool direct = parameter.is_cpu() && !dropped && parameter.is_contiguous();
  const at::Tensor values = direct ? parameter.detach() : at::empty(tensor.shape, at::kFloat);
  read_into(tensor, values.data_ptr<float>());
  if (!direct) parameter.set_data(values.to(parameter.device()));
}

void drop_parameter(Decoder& decoder, const std::string& name) {
  at::Tensor& parameter = decoder.parameter(name);
  parameter.set_data(at::empty({0}, parameter.options().requires_grad(false)));
}

std::shared_ptr<Decoder> load_decoder(const Checkpoint& checkpoint, const at::Device& device) {
  auto decoder = std::make_shared<Decoder>(checkpoint.config);
  for (const std::string& name : decoder->parameter_names()) {
    check_interrupt();
    load_parameter(*decoder, checkpoint, name);
    at::Tensor& parameter = decoder->parameter(name);
    if (parameter.device() != device) parameter.set_data(parameter.detach().to(device));
  }
  return decoder;
}

bool runs_on_kernels(const Checkpoint& checkpoint, const at::Device& device, bool floats) {
  return !floats && device.is_cpu() && has_packed_matrices(checkpoint);
}

std::shared_ptr<Decoder> share_weights(Decoder& decoder) {
  auto copy = std::make_shared<Decoder>(decoder.config());
  for (const std::string& name : decoder.parameter_names()) copy->parameter(name).set_data(decoder.parameter(name));
  copy->compute = decoder.compute;
  return copy;
}

void hold_in_compute_type(Decoder& decoder) {
  const at::NoGradGuard no_grad;
  for (const std::string& name : decoder.parameter_names())
    if (at::Tensor& parameter = decoder.parameter(name); parameter.dim() >= 2) parameter.set_data(parameter.to(decoder.compute));
}

void initialise(Decoder& decoder, std::uint64_t seed) {
  Random random(seed);
  const ModelConfig& config = decoder.config();
  const double residual = 1.0 / std::sqrt(2.0 * static_cast<double>(config.layers));
  for (const std::string& name : decoder.parameter_names()) {
    at::Tensor& parameter = decoder.parameter(name);
    at::Tensor values = at::empty(parameter.sizes(), at::kFloat);
    if (name.ends_with(".bias")) {
      values.zero_();
    } else if (name.ends_with("norm.weight")) {
      values.fill_(config.norm_adds_one ? 0.0 : 1.0);
    } else {
      const bool output = name.ends_with(".o_proj.weight") || name.ends_with(".down_proj.weight");
      fill_normal(random, output ? 0.02 * residual : 0.02, values.data_ptr<float>(), values.numel());
    }
    parameter.set_data(values.to(parameter.device()));
  }
}

Checkpoint to_checkpoint(Decoder& decoder, const TokenizerData& tokenizer) {
  Checkpoint checkpoint;
  checkpoint.format = "hf";
  checkpoint.config = decoder.config();
  checkpoint.config.dtype = "float32";
  checkpoint.tokenizer = tokenizer;
  for (const std::string& name : decoder.parameter_names()) {
    const at::Tensor values = on_cpu(decoder.parameter(name));
    const float* begin = values.data_ptr<float>();
    checkpoint.tensors.push_back(
        make_tensor(name, values.sizes().vec(), std::vector<float>(begin, begin + values.numel())));
  }
  return checkpoint;
}

}  // namespace attar
