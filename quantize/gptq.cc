// Symbols, after the paper where it has one:
//   W  (rows, columns)   weights; T: what they should be (target), T = W unless inputs have drifted
//   H  (columns, columns) X_q^T X_q + lambda I
//   Q  (rows, columns)   quantized weights; E = T - Q
//   U, D                 H = U D^2 U^T in visiting order, U unit upper triangular
//
// The error of a row e = t - q is e H e^T = |e U D|^2, and component j of e U holds e_i for i <= j only:
//   (e U)_j = e_j + sum_{i<j} e_i U_ij
// So once e_0 .. e_{j-1} are fixed, the best q_j is the grid's value nearest to  t_j + sum_{i<j} e_i U_ij. These are the
// updates of the paper's Algorithm 1 (its Hinv^T is (U D)^-1), pulled when a column is reached instead of pushed ahead, and
// without inverting H.
#include "quantize/gptq.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "model/tensor.h"
#include "quantize/descent.h"
#include "quantize/products.h"
#include "quantize/round.h"
#include "quantize/rtn.h"
#include "quantize/tensors.h"

namespace attar {
namespace {

constexpr std::int64_t kBlock = 128;  // columns per block: the paper's B

std::span<float> values(const at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

// One step's rows while they are worked on; all (rows, columns) float32.
struct Rows {
  at::Tensor W, T;
  std::vector<PackedRow> packed;
  at::Tensor A, across;  // (rows, rows), if they are tied: A = V D^2 V^T, V = across unit upper triangular
};

// T = W + (W drift + residual) H^-1: the weights that, on the quantized model's inputs, best repeat what W gave on the
// original's or make up for what the residual stream has lost (with lambda pulling towards W). With a drift alone the same
// as (W X_fp^T X_q + lambda W) (X_q^T X_q + lambda I)^-1. W: rows [begin, ...) of the matrix.
at::Tensor corrected_target(const at::Tensor& W, const Curvature& c, std::int64_t begin) {
  if (!c.drift.defined() && !c.residual.defined()) return W;
  const at::Tensor order = tensor_of(c.order);
  at::Tensor moved = c.drift.defined() ? at::mm(W, c.drift) : at::zeros_like(W);
  if (c.residual.defined()) moved += c.residual.narrow(0, begin, W.size(0));
  at::Tensor T = W.clone();
  T.index_add_(1, order, divide(moved.index_select(1, order), c.factor));
  return T;
}

// Algorithm 1 over all columns, block by block. Rows that are tied hear of each other's errors the same way.
void visit_columns(Rows& rows, const Curvature& c) {
  const std::int64_t count = rows.T.size(0), columns = rows.T.size(1);
  const at::Tensor T = rows.T.index_select(1, tensor_of(c.order)).contiguous();
  const at::Tensor E = at::zeros_like(T);
  const float* target = T.data_ptr<float>();
  const float* U = c.factor.U.data_ptr<float>();
  const float* V = rows.across.defined() ? rows.across.data_ptr<float>() : nullptr;
  float* error = E.data_ptr<float>();
  std::vector<float> above(static_cast<std::size_t>(count));  // what the rows above ask of each row in this column
  for (std::int64_t begin = 0; begin < columns; begin += kBlock) {
    const std::int64_t width = std::min(kBlock, columns - begin);
    // What the columns before this block ask of it.
    at::Tensor pull = begin == 0 ? at::zeros({count, width})
                                 : at::mm(E.narrow(1, 0, begin), c.factor.U.narrow(0, 0, begin).narrow(1, begin, width));
    float* asked = pull.data_ptr<float>();
    for (std::int64_t j = 0; j < width; ++j) {
      const std::int64_t k = begin + j, column = c.order[static_cast<std::size_t>(k)];
      const float* later = U + k * columns + begin;
      std::fill(above.begin(), above.end(), 0.0f);
      for (std::int64_t r = 0; r < count; ++r) {
        PackedRow& row = rows.packed[static_cast<std::size_t>(r)];
        const float t = target[r * columns + k];
        const int code = row.nearest(column, t + asked[r * width + j] + above[static_cast<std::size_t>(r)]);
        const float e = t - row.value(column, code);
        row.set_code(column, code);
        error[r * columns + k] = e;
        if (V != nullptr) {
          const float all = e + asked[r * width + j];  // (E U)_rj
          for (std::int64_t i = r + 1; i < count; ++i) above[static_cast<std::size_t>(i)] += all * V[r * count + i];
        }
        for (std::int64_t i = j + 1; i < width; ++i) asked[r * width + i] += e * later[i];
      }
    }
  }
}

struct Sums {
  double weight_error = 0, weight = 0, output_error = 0, output = 0, rounded_error = 0;
  std::int64_t clipped = 0;
};

at::Tensor values_of(const std::vector<PackedRow>& rows, std::int64_t columns) {
  at::Tensor Q = at::empty({static_cast<std::int64_t>(rows.size()), columns});
  float* q = Q.data_ptr<float>();
  for (const PackedRow& row : rows) row.values(0, {q, static_cast<std::size_t>(columns)}), q += columns;
  return Q;
}

// |E X^T|^2 of E (rows, columns): H is damped.
double output_square(const at::Tensor& E, const Curvature& c) { return quadratic_form(E, c.H) - c.lambda * total(E.square()); }

// E = T - Q.
Sums measure(const at::Tensor& W, const at::Tensor& T, const at::Tensor& E, const Curvature& c) {
  Sums sums;
  sums.weight_error = total((W - (T - E)).square());
  sums.weight = total(W.square());
  sums.output_error = output_square(E, c);
  sums.output = output_square(T, c);
  return sums;
}

// H = V V^T with V upper triangular is the Cholesky factorisation of H with its columns in reverse, turned around. This is what
// it starts from: the lower triangle of H + lambda I in reversed visiting order, float64.
Triangle reversed_lower(const at::Tensor& H, const std::vector<std::int64_t>& order, double lambda) {
  const std::int64_t n = H.size(0);
  Triangle A(n);
  const float* from = H.data_ptr<float>();
  parallel_for(n, [&](std::int64_t i) {
    const float* line = from + order[static_cast<std::size_t>(n - 1 - i)] * n;
    double* to = A.row(i);
    for (std::int64_t j = 0; j <= i; ++j) to[j] = line[order[static_cast<std::size_t>(n - 1 - j)]];
    to[i] += lambda;
  });
  return A;
}

}  // namespace

Curvature make_curvature(InputSums sums, const GptqOptions& options, std::string_view name) {
  const at::NoGradGuard no_grad;
  const std::int64_t n = sums.XtX.size(0);
  const double mean = sums.XtX.diagonal().to(at::kDouble).mean().item<double>();
  if (!std::isfinite(sums.XtX.min().item<float>()) || !std::isfinite(sums.XtX.max().item<float>())) refuse_inputs(name);
  Curvature c;
  if (sums.cross.defined()) c.drift = sums.cross.sub_(sums.XtX);
  c.residual = sums.residual;
  c.H = std::move(sums.XtX);
  const at::Tensor diagonal = c.H.diagonal().clone();
  const std::span<const float> d = values(diagonal);
  c.dead_columns = std::count(d.begin(), d.end(), 0.0f);
  c.order.resize(static_cast<std::size_t>(n));
  std::iota(c.order.begin(), c.order.end(), 0);
  if (options.act_order)
    std::stable_sort(c.order.begin(), c.order.end(), [&](std::int64_t a, std::int64_t b) {
      return d[static_cast<std::size_t>(a)] > d[static_cast<std::size_t>(b)];
    });

  for (c.damping = options.damping;; c.damping *= 10, ++c.damping_raises) {
    // Without any input at all every rounding is as good as another; the nearest is the natural one.
    c.lambda = mean > 0 ? c.damping * mean : 1.0;
    Triangle L = reversed_lower(c.H, c.order, c.lambda);
    if (cholesky_in_place(L)) {
      c.factor = unit_upper(std::move(L));
      break;
    }
    if (c.damping >= 1.0)
      fail("gptq: the Hessian of ", name, " is not positive definite even with ", c.damping,
           " of its mean diagonal added; give more or other calibration text");
  }
  c.H.diagonal().add_(c.lambda);
  for (const float value : d) c.importance.push_back(static_cast<float>(value + c.lambda));
  return c;
}

GptqResult gptq(Type type, const at::Tensor& W, const Curvature& curvature, const GptqOptions& options, std::string_view name,
                const at::Tensor& A) {
  const at::NoGradGuard no_grad;
  const std::int64_t rows = W.size(0), columns = W.size(1);
  if (curvature.H.size(0) != columns)
    fail("gptq: ", name, " has ", columns, " columns, its calibration statistics ", curvature.H.size(0));
  check_finite(values(W), columns, name);
  const auto stride = static_cast<std::size_t>(row_bytes(type, static_cast<std::uint64_t>(columns)));
  GptqResult result;
  result.Q = {type, {rows, columns}, Bytes(stride * static_cast<std::size_t>(rows))};
  const auto bytes_of = [&](std::int64_t row) {
    return std::span(result.Q.bytes).subspan(static_cast<std::size_t>(row) * stride, stride);
  };
  const std::int64_t together = A.defined() ? A.size(1) : kStepRows, steps = (rows + together - 1) / together;
  std::vector<Sums> sums(static_cast<std::size_t>(steps));
  parallel_for(steps, [&](std::int64_t step) {
    check_interrupt();
    const at::NoGradGuard no_grad_here;
    const std::int64_t begin = step * together, count = std::min(together, rows - begin);
    Rows part;
    part.W = W.narrow(0, begin, count);
    part.T = corrected_target(part.W, curvature, begin);
    for (std::int64_t r = 0; r < count; ++r) {
      const auto target = values(part.T).subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns));
      try {
        encode_row(type, target, curvature.importance, bytes_of(begin + r));
      } catch (const Error& error) {
        const bool moved = !part.T.is_same(part.W);
        fail("gptq: ", name, ", row ", begin + r, moved ? ", moved to make up for inputs that are not the original's: " : ": ", error.what(),
             moved ? "; there is next to nothing left of those inputs, so keep more of what makes them, or leave this out (--no-correction)" : "");
      }
      part.packed.emplace_back(type, bytes_of(begin + r), columns);
    }
    const double rounded_error = output_square(part.T - values_of(part.packed, columns), curvature);
    if (A.defined()) {
      part.A = A.narrow(0, begin, count).narrow(1, 0, count).contiguous();
      Triangle L(part.A.flip({0, 1}));
      if (!cholesky_in_place(L)) fail("gptq: the output metric of ", name, " is not positive definite");
      part.across = unit_upper(std::move(L)).U;
    }
    visit_columns(part, curvature);
    const at::Tensor E = descend(part.packed, part.T, curvature.H, curvature.order, options.descent, part.A);
    Sums& sum = sums[static_cast<std::size_t>(step)] = measure(part.W, part.T, E, curvature);
    sum.rounded_error = rounded_error;
    for (std::int64_t r = 0; r < count; ++r) {
      part.packed[static_cast<std::size_t>(r)].write(bytes_of(begin + r));
      sum.clipped += count_clipped(type, bytes_of(begin + r), values(part.T).subspan(static_cast<std::size_t>(r * columns), static_cast<std::size_t>(columns)));
    }
  });
  Sums total;
  for (const Sums& part : sums) {
    total.weight_error += part.weight_error;
    total.weight += part.weight;
    total.output_error += part.output_error;
    total.output += part.output;
    total.rounded_error += part.rounded_error;
    total.clipped += part.clipped;
  }
  result.weight_error = total.weight > 0 ? total.weight_error / total.weight : 0;
  result.output_error = total.output > 0 ? std::max(0.0, total.output_error) / total.output : 0;
  result.rounded_error = total.output > 0 ? std::max(0.0, total.rounded_error) / total.output : 0;
  result.clipped = static_cast<double>(total.clipped) / static_cast<double>(std::max<std::int64_t>(1, rows * columns));
  return result;
}

}  // namespace attar
