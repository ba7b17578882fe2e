#include "model/packed.h"

#include "base/error.h"
#include "kernels_ref/multiply.h"

namespace attar {

at::Tensor packed_linear(const QuantizedTensor& W, const at::Tensor& x) {
  if (at::GradMode::is_enabled()) fail("decoder: packed weights have no gradients; run it under at::NoGradGuard");
  const at::Tensor tokens = x.reshape({-1, W.columns()}).contiguous();
  auto shape = x.sizes().vec();
  shape.back() = W.rows();
  at::Tensor y = at::empty(shape, x.options());
  const auto in = static_cast<std::size_t>(W.columns()), out = static_cast<std::size_t>(W.rows());
  const auto count = static_cast<std::size_t>(tokens.size(0));
  Activations rounded;
  rounded.round(default_rounding(W.type), {tokens.data_ptr<float>(), count * in}, count);
  multiply({W.type, W.bytes, out, in}, rounded, {y.data_ptr<float>(), count * out});
  return y;
}

at::Tensor packed_embedding(const QuantizedTensor& W, const at::Tensor& ids) {
  const at::Tensor flat = ids.contiguous();
  at::Tensor rows = at::empty({ids.size(0), ids.size(1), W.columns()}, at::kFloat);
  const auto columns = static_cast<std::size_t>(W.columns());
  const std::uint64_t size = row_bytes(W.type, columns);
  for (std::int64_t i = 0; i < flat.numel(); ++i) {
    const auto id = static_cast<std::uint64_t>(flat.data_ptr<std::int64_t>()[i]);
    decode_row(W.type, ByteView(W.bytes).subspan(id * size, size),
               std::span<float>(rows.data_ptr<float>() + static_cast<std::size_t>(i) * columns, columns));
  }
  return rows;
}

}  // namespace attar
