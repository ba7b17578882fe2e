// Which variant runs: an explicit list, best first.
#include "kernels_ref/variants.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#include "base/half.h"
#include "kernels_ref/dot.h"
#include "kernels_ref/multiply.h"

namespace attar {
namespace {

struct Entry {
  const Variant* variant;
  bool (*runs_here)();
};
#if defined(__x86_64__)
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512dq");
}
#elif defined(__aarch64__) && defined(__linux__)
// Bits of Linux's arch/arm64/include/uapi/asm/hwcap.h, which is not everywhere new enough to name them.
bool has_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }
bool has_i8mm() { return (getauxval(AT_HWCAP2) >> 13 & 1) != 0; }
#elif defined(__aarch64__)
// Elsewhere the system does not say it in a common way: what the compiler was told that all machines have.
#if defined(__ARM_FEATURE_DOTPROD)
bool has_dotprod() { return true; }
#else
bool has_dotprod() { return false; }
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
bool has_i8mm() { return true; }
#else
bool has_i8mm() { return false; }
#endif
#endif

const Entry kVariants[] = {
#if defined(__x86_64__)
    {&kAvx512Vnni, [] { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }},
    {&kAvx512, [] { return has_avx512(); }},
    // No processor has AVX2 but lacks F16C, which compilers cannot all ask for.
    {&kAvx2, [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }},
#elif defined(__aarch64__)
    {&kNeonI8mm, [] { return has_i8mm(); }},
    {&kNeonDotprod, [] { return has_dotprod(); }},
    {&kNeon, [] { return true; }},
#elif defined(__wasm__)
    {&kWasmSimd, [] { return true; }},  // a module with vectors does not load where there are none
#endif
    {&kReference, [] { return true; }},
};

std::atomic<const Variant*> g_active{nullptr};

void reference_rows(const RowsTask& task) {
  for (std::size_t r = 0; r < task.rows; ++r)
    task.y[r] = dot_integers(task.type, task.weights + r * task.stride, task.x, task.columns);
}

constexpr std::size_t kReferenceTile = 4;

void reference_panel(const PanelTask& task) {
  const std::size_t group = static_cast<std::size_t>(task.group), groups = task.columns / group;
  for (std::size_t t = 0; t < task.tokens; ++t) {
    const std::size_t first = t / kReferenceTile * kReferenceTile, in_tile = t % kReferenceTile;
    const std::int8_t* q = task.q + first * task.columns;
    const float* d = task.d + first * (task.columns / 32) + in_tile;
    const std::size_t own = first * groups + in_tile;  // of its first group
    for (std::size_t r = 0; r < task.rows; ++r) {
      float total = 0;
      for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t of_token = own + g * kReferenceTile;
        std::int32_t product = task.offset == nullptr ? task.start[of_token] : 0;
        for (std::size_t i = g * group; i < (g + 1) * group; ++i)
          product += task.codes[(i / 4 * kPanelRows + r) * 4 + i % 4] * q[(i / 4 * kReferenceTile + t % kReferenceTile) * 4 + i % 4];
        const std::size_t at = g * kPanelRows + r;
        total += d[g * group / 32 * kReferenceTile] *
                 (task.scale[at] * static_cast<float>(product) + (task.offset != nullptr ? task.offset[at] * task.sums[of_token] : 0.0f));
      }
      task.y[t * task.y_stride + r] = total;
    }
  }
}

void reference_interleave(const std::uint8_t* codes, std::size_t stride, std::size_t weights, std::uint8_t* out) {
  for (std::size_t r = 0; r < kPanelRows; ++r)
    for (std::size_t i = 0; i < weights; ++i) out[(i / 4 * kPanelRows + r) * 4 + i % 4] = codes[r * stride + i];
}

float reference_dot(const float* w, const float* x, std::size_t n) {
  constexpr std::size_t kLanes = 16;
  float lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (std::size_t k = 0; k < kLanes; ++k) lanes[k] += w[i + k] * x[i + k];
  for (; i < n; ++i) lanes[i % kLanes] += w[i] * x[i];
  for (std::size_t half = kLanes / 2; half > 0; half /= 2)
    for (std::size_t k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  return lanes[0];
}

void reference_attention(const AttentionTask& task) {
  const auto at = [&](const void* stored, std::size_t i) {
    return task.halves ? f32_from_f16(static_cast<const std::uint16_t*>(stored)[i]) : static_cast<const float*>(stored)[i];
  };
  for (std::size_t i = 0; i < task.queries; ++i) {
    float* const weights = task.scores;
    float most = -std::numeric_limits<float>::infinity(), sum = 0;
    for (std::size_t k = task.first[i]; k < task.last[i]; ++k) {
      float score = 0;
      for (std::size_t j = 0; j < task.head_dim; ++j) score += task.q[i][j] * at(task.keys, place_of_key(k, j, task.head_dim));
      weights[k] = task.softcap > 0 ? task.softcap * std::tanh(score / task.softcap) : score;
      most = std::max(most, weights[k]);
    }
    for (std::size_t k = task.first[i]; k < task.last[i]; ++k) sum += weights[k] = std::exp(weights[k] - most);
    std::fill_n(task.out[i], task.head_dim, 0.0f);
    for (std::size_t k = task.first[i]; k < task.last[i]; ++k)
      for (std::size_t j = 0; j < task.head_dim; ++j) task.out[i][j] += weights[k] / sum * at(task.values, k * task.head_dim + j);
  }
}

void reference_widen(const std::uint16_t* half, std::size_t n, float* out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = f32_from_f16(half[i]);
}

std::string names(bool only_those_here) {
  std::string list;
  for (const auto& [variant, runs_here] : kVariants)
    if (!only_those_here || runs_here()) list += (list.empty() ? "" : ", ") + std::string(variant->name);
  return list;
}

const Variant& find(std::string_view name) {
  for (const auto& [variant, runs_here] : kVariants) {
    if (name != variant->name) continue;
    if (!runs_here()) fail("[kernels] this processor lacks what ", variant->name, " needs; it has ", names(true));
    return *variant;
  }
  fail("[kernels] there is no variant '", std::string(name), "'; expected one of ", names(false));
}

const Variant& first_choice() {
  if (const char* wanted = std::getenv("ATTAR_KERNELS"); wanted != nullptr && *wanted != '\0') return find(wanted);
  for (const auto& [variant, runs_here] : kVariants)
    if (runs_here()) return *variant;
  return kReference;
}

}  // namespace

const Variant kReference = {"reference", kReferenceTile, reference_rows, reference_panel, unpack_of, reference_interleave, reference_dot, reference_attention, reference_widen};

const Variant& active_variant() {
  const Variant* active = g_active;
  if (active == nullptr) g_active = active = &first_choice();
  return *active;
}

const char* kernel_variant() { return active_variant().name; }

void select_kernel_variant(std::string_view name) { g_active = &find(name); }

std::vector<std::string> kernel_variants() {
  std::vector<std::string> list;
  for (const auto& [variant, runs_here] : kVariants)
    if (runs_here()) list.emplace_back(variant->name);
  return list;
}

}  // namespace attar
