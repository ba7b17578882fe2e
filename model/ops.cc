#include "model/ops.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

namespace attar {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr std::int64_t kGrain = 16384;  // floats a thread should at least have

bool on_cpu(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

// Sums over i of f(i), in sixteen lanes that the compiler keeps in vector registers.
template <class F>
float lane_sum(std::int64_t count, F f) {
  constexpr std::int64_t kLanes = 16;
  float lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (std::int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += f(i + lane);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  for (; i < count; ++i) sum += f(i);
  return sum;
}

// ---- RMS norm. x, y, g: (rows, n); inverse: (rows) = 1 / sqrt(mean(x^2) + eps)

struct NormForward {
  at::Tensor y, inverse;
};

NormForward norm_forward(const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  if (!on_cpu(x)) {
    const at::Tensor inverse = at::rsqrt(x.square().mean(-1, true) + eps);
    return {x * inverse * (weight + offset), inverse.squeeze(-1)};
  }
  const std::int64_t n = x.size(1), rows = x.size(0);
  NormForward result{at::empty_like(x), at::empty({rows}, x.options())};
  const float* in = x.data_ptr<float>();
  const float* w = weight.data_ptr<float>();
  float* out = result.y.data_ptr<float>();
  float* inverses = result.inverse.data_ptr<float>();
  const auto shift = static_cast<float>(offset);
  at::parallel_for(0, rows, kGrain / n + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float* a = in + row * n;
      const float mean = lane_sum(n, [&](std::int64_t i) { return a[i] * a[i]; }) / static_cast<float>(n);
      const float inverse = 1.0f / std::sqrt(mean + static_cast<float>(eps));
      inverses[row] = inverse;
      for (std::int64_t i = 0; i < n; ++i) out[row * n + i] = a[i] * inverse * (w[i] + shift);
    }
  });
  return result;
}

// dx = inverse (g w) - x inverse^3 / n * sum(g w x)
at::Tensor norm_backward_x(const at::Tensor& g, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& inverse,
                           double offset) {
  if (!on_cpu(x)) {
    const at::Tensor r = inverse.unsqueeze(-1), gw = g * (weight + offset);
    return r * gw - x * (r * r * r * (gw * x).mean(-1, true));
  }
  const std::int64_t n = x.size(1), rows = x.size(0);
  at::Tensor dx = at::empty_like(x);
  const float* grad = g.data_ptr<float>();
  const float* in = x.data_ptr<float>();
  const float* w = weight.data_ptr<float>();
  const float* inverses = inverse.data_ptr<float>();
  float* out = dx.data_ptr<float>();
  const auto shift = static_cast<float>(offset);
  at::parallel_for(0, rows, kGrain / n + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const float *a = in + row * n, *b = grad + row * n;
      const float r = inverses[row];
      const float dot = lane_sum(n, [&](std::int64_t i) { return b[i] * (w[i] + shift) * a[i]; });
      const float pull = dot * r * r * r / static_cast<float>(n);
      for (std::int64_t i = 0; i < n; ++i) out[row * n + i] = r * b[i] * (w[i] + shift) - a[i] * pull;
    }
  });
  return dx;
}

// dw = sum over rows of g x inverse; each column adds its rows in order, so the sum is the same at any thread count.
at::Tensor norm_backward_weight(const at::Tensor& g, const at::Tensor& x, const at::Tensor& inverse) {
  if (!on_cpu(x)) return (g * x * inverse.unsqueeze(-1)).sum(0);
  const std::int64_t n = x.size(1), rows = x.size(0);
  at::Tensor dw = at::zeros({n}, x.options());
  const float* grad = g.data_ptr<float>();
  const float* in = x.data_ptr<float>();
  const float* inverses = inverse.data_ptr<float>();
  float* out = dw.data_ptr<float>();
  at::parallel_for(0, n, kGrain / (rows + 1) + 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t i = begin; i < end; ++i) out[i] += grad[row * n + i] * in[row * n + i] * inverses[row];
  });
  return dw;
}

struct RmsNorm : torch::autograd::Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, double eps,
                            double offset) {
    NormForward result = norm_forward(x, weight, eps, offset);
    context->save_for_backward({x, weight, result.inverse});
    context->saved_data["offset"] = offset;
    return result.y;
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    const at::Tensor g = grads[0].contiguous();
    const double offset = context->saved_data["offset"].toDouble();
    return {norm_backward_x(g, saved[0], saved[1], saved[2], offset),
            saved[1].requires_grad() ? norm_backward_weight(g, saved[0], saved[2]) : at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

// ---- Rotation

// out = scale * R(angle) x, or with sign = -1 its transpose. out has x's shape, last dimension dense.
void rotate_into(at::Tensor out, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double scale,
                 double sign) {
  const std::int64_t r = cos.size(1), head_dim = x.size(3);
  if (!on_cpu(x)) {
    const at::Tensor a = x.narrow(3, 0, r), b = x.narrow(3, r, r), c = cos * scale, s = sin * (scale * sign);
    out.narrow(3, 0, r).copy_(a * c - b * s);
    out.narrow(3, r, r).copy_(b * c + a * s);
    if (2 * r < head_dim) out.narrow(3, 2 * r, head_dim - 2 * r).copy_(x.narrow(3, 2 * r, head_dim - 2 * r) * scale);
    return;
  }
  const std::int64_t heads = x.size(1), time = x.size(2);
  const float* in = x.data_ptr<float>();
  const float* cosines = cos.data_ptr<float>();
  const float* sines = sin.data_ptr<float>();
  float* to = out.data_ptr<float>();
  const auto factor = static_cast<float>(scale), turn = static_cast<float>(scale * sign);
  at::parallel_for(0, x.size(0) * heads * time, kGrain / head_dim + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t t = row % time, h = row / time % heads, b = row / (time * heads);
      const float* from = in + b * x.stride(0) + h * x.stride(1) + t * x.stride(2);
      float* y = to + b * out.stride(0) + h * out.stride(1) + t * out.stride(2);
      const float *c = cosines + t * r, *s = sines + t * r;
      for (std::int64_t j = 0; j < r; ++j) {
        const float cj = c[j] * factor, sj = s[j] * turn;
        const float low = from[j], high = from[j + r];
        y[j] = low * cj - high * sj;
        y[j + r] = high * cj + low * sj;
      }
      for (std::int64_t j = 2 * r; j < head_dim; ++j) y[j] = from[j] * factor;
    }
  });
}

at::Tensor rotated(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double scale) {
  at::Tensor out = at::empty(x.sizes(), x.options());
  rotate_into(out, x, cos, sin, scale, 1.0);
  return out;
}

struct RotateHeads : torch::autograd::Function<RotateHeads> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin,
                            double scale) {
    context->save_for_backward({cos, sin});
    context->saved_data["scale"] = scale;
    return rotated(x, cos, sin, scale);
  }
  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto saved = context->get_saved_variables();
    at::Tensor g = grads[0];
    if (g.stride(3) != 1) g = g.contiguous();
    // Laid out as (batch, time, heads, head_dim), the way the projection that made x wants its gradient.
    at::Tensor dx = at::empty({g.size(0), g.size(2), g.size(1), g.size(3)}, g.options()).transpose(1, 2);
    rotate_into(dx, g, saved[0], saved[1], context->saved_data["scale"].toDouble(), -1.0);
    return {dx, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

bool needs_grad(const at::Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, double offset) {
  const at::Tensor rows = x.contiguous().view({-1, x.size(-1)});
  if (needs_grad(rows) || needs_grad(weight)) return RmsNorm::apply(rows, weight, eps, offset).view(x.sizes());
  return norm_forward(rows, weight, eps, offset).y.view(x.sizes());
}

at::Tensor rotate_heads(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, double scale) {
  const at::Tensor dense = x.stride(3) == 1 ? x : x.contiguous();
  return needs_grad(dense) ? RotateHeads::apply(dense, cos, sin, scale) : rotated(dense, cos, sin, scale);
}

}  // namespace attar
