#include "quantize/matrix_loss.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/console.h"
#include "base/threads.h"
#include "quantize/gptq.h"
#include "quantize/products.h"
#include "quantize/shared_inputs.h"
#include "quantize/streams.h"
#include "quantize/tensors.h"

namespace attar {

MatrixLoss loss_of(const QuantizedTensor& Q, const at::Tensor& W, const at::Tensor& XtX) {
  const std::int64_t rows = W.size(0), columns = W.size(1);
  const auto stride = static_cast<std::size_t>(row_bytes(Q.type, static_cast<std::uint64_t>(columns)));
  struct Sums {
    double error = 0, weight = 0, output_error = 0, output = 0;
    std::int64_t clipped = 0;
  };
  std::vector<Sums> parts(static_cast<std::size_t>((rows + kStepRows - 1) / kStepRows));
  parallel_for(static_cast<std::int64_t>(parts.size()), [&](std::int64_t step) {
    const at::NoGradGuard no_grad;
    const std::int64_t begin = step * kStepRows;
    const at::Tensor w = W.narrow(0, begin, std::min(kStepRows, rows - begin)), E = w.clone();
    Sums& sums = parts[static_cast<std::size_t>(step)];
    float* e = E.data_ptr<float>();
    std::vector<float> q(static_cast<std::size_t>(columns));
    for (std::int64_t r = begin; r < begin + E.size(0); ++r, e += columns) {
      const ByteView packed = ByteView(Q.bytes).subspan(static_cast<std::size_t>(r) * stride, stride);
      sums.clipped += count_clipped(Q.type, packed, {e, static_cast<std::size_t>(columns)});
      decode_row(Q.type, packed, q);
      for (std::size_t j = 0; j < q.size(); ++j) e[j] -= q[j];
    }
    sums.error = total(E.square());
    sums.weight = total(w.square());
    if (!XtX.defined()) return;
    sums.output_error = quadratic_form(E, XtX);
    sums.output = quadratic_form(w, XtX);
  });
  Sums all;
  for (const Sums& part : parts) {
    all.error += part.error, all.weight += part.weight;
    all.output_error += part.output_error, all.output += part.output;
    all.clipped += part.clipped;
  }
  MatrixLoss loss;
  loss.weight_error = all.weight > 0 ? all.error / all.weight : 0.0;
  if (XtX.defined()) loss.output_error = all.output > 0 ? std::max(0.0, all.output_error) / all.output : 0.0;
  loss.clipped = static_cast<double>(all.clipped) / static_cast<double>(std::max<std::int64_t>(1, rows * columns));
  return loss;
}

void look_again(TensorReport& report, const std::string& step, const MatrixLoss& loss) {
  report.method += "+" + step;
  report.weight_error = loss.weight_error;
  report.output_error = loss.output_error;
  report.clipped = loss.clipped;
}

void look_again(QuantizeReport& report, const std::string& step, const Checkpoint& original, const Checkpoint& changed, const std::vector<Ids>& chunks,
                const fs::path& spill) {
  constexpr const char *kEmbedding = "model.embed_tokens.weight", *kHead = "lm_head.weight";
  const OneTorchThread one_thread;
  const at::NoGradGuard no_grad;
  std::map<std::string, TensorReport*> entries;
  for (TensorReport& tensor : report.tensors) entries[tensor.plan.name] = &tensor;
  const auto look = [&](const std::string& name, const at::Tensor& XtX) {
    const at::Tensor W = read_tensor(original.at(name));
    const Tensor& Q = changed.at(name);
    look_again(*entries.at(name), step, info(Q.type).quantized ? loss_of(read_packed(Q), W, XtX) : MatrixLoss{weight_error(read_tensor(Q), W)});
  };
  Progress progress("looking again", static_cast<std::uint64_t>(changed.config.layers), "layers");
  Streams streams(changed, chunks, {.spill = spill});
  streams.start(changed.at(kEmbedding));
  for (std::int64_t layer = 0; layer < changed.config.layers; ++layer) {
    for (const Half half : {Half::kAttention, Half::kMlp}) {
      streams.enter(layer, half);
      for (const auto& together : sharing_inputs(streams.linear_weights(), [&](const std::string& name) { return entries.at(name)->plan.role; })) {
        const at::Tensor XtX = streams.input_sums(together.front()).XtX;
        for (const std::string& name : together) look(name, XtX);
      }
      streams.leave();
    }
    progress.advance(1);
  }
  const bool tied = !entries.contains(kHead);
  const at::Tensor XtX = streams.final_sums().XtX;
  look(kEmbedding, tied ? XtX : at::Tensor());
  if (!tied) look(kHead, XtX);
}

}  // namespace attar
