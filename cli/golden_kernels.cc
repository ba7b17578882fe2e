// Golden blocks and products: rows of the model's weights and of random bits in every type.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "base/random.h"
#include "cli/golden.h"
#include "kernels_ref/dot.h"

namespace attar::cli {
namespace {

constexpr std::int64_t kEncodedRows = 4, kRandomRows = 4, kModelRows = 4;
constexpr std::size_t kColumns = 512;
constexpr std::int64_t kTokens = 5;
// Of the sum of all terms' magnitudes, including what is added and taken away again by kernels whose codes are
// unsigned: room for adding floats in any order, too little for a wrong code.
constexpr double kTolerance = 1e-6;

struct Case {
  std::string name, source;
  Type type;
  std::int64_t rows;
  std::size_t columns;
  Bytes packed;
  std::size_t stride() const { return row_bytes(type, columns); }
  ByteView row(std::int64_t r) const {
    return ByteView(packed).subspan(static_cast<std::size_t>(r) * stride(), stride());
  }
};

bool is_float(Type type) { return type == Type::kF32 || type == Type::kF16 || type == Type::kBF16; }
bool can_encode(Type type) { return is_float(type) || info(type).grid.group != 0; }

// Any bits, block by block, drawn again until the largest weight of the block is within bounds.
void draw_row(Type type, Span<std::byte> row, std::size_t columns, float least, float most, Random& random) {
  const std::size_t block = block_weights(type, columns), bytes = row_bytes(type, block);
  std::vector<float> w(block);
  const auto fits = [&] {
    float largest = 0;
    for (const float v : w) largest = std::isfinite(v) ? std::max(largest, std::fabs(v)) : INFINITY;
    return largest >= least && largest <= most;
  };
  for (std::size_t at = 0; at < row.size(); at += bytes) {
    do {
      for (std::byte& byte : row.subspan(at, bytes)) byte = static_cast<std::byte>(random.below(256));
      decode_row(type, row.subspan(at, bytes), w);
    } while (!fits());
  }
}

std::vector<float> first_weights(const Checkpoint& checkpoint, std::size_t count, std::string& name) {
  for (const Tensor& tensor : checkpoint.tensors) {
    if (tensor.shape.size() != 2 || element_count(tensor.shape) < count) continue;
    name = tensor.name;
    std::vector<float> values =
        read_floats(tensor, 0, (static_cast<std::int64_t>(count) + tensor.columns() - 1) / tensor.columns());
    values.resize(count);
    return values;
  }
  fail("golden: no matrix of the model has ", count, " weights");
}

std::vector<Case> all_cases(const Checkpoint& checkpoint, Random& random) {
  std::string from;
  const std::vector<float> weights = first_weights(checkpoint, kEncodedRows * kColumns, from);
  std::vector<Case> cases;
  for (const TypeInfo& entry : all_types()) {
    if (!entry.quantized && !is_float(entry.type)) continue;
    const bool encoded = can_encode(entry.type);
    Case c{entry.name,
           encoded
               ? cat("rows 0 to ", kEncodedRows - 1, ": ", from, " read as rows of ", kColumns, "; then random bits")
               : "random bits",
           entry.type,
           (encoded ? kEncodedRows : 0) + kRandomRows,
           kColumns,
           {}};
    c.packed.resize(static_cast<std::size_t>(c.rows) * c.stride());
    for (std::int64_t r = 0; r < c.rows; ++r) {
      const auto at = static_cast<std::size_t>(r);
      const Span<std::byte> row(c.packed.data() + at * c.stride(), c.stride());
      if (encoded && r < kEncodedRows) {
        encode_row(c.type, Span<const float>(weights).subspan(at * kColumns, kColumns), {}, row);
      } else {
        // Blocks of like size, so that a wrong code shows in a product; the last row has all that its scales can be.
        const bool last = r == c.rows - 1;
        draw_row(c.type, row, kColumns, last || is_float(c.type) ? 0.0f : 1.0f, last ? 1000.0f : 4.0f, random);
      }
    }
    cases.push_back(std::move(c));
  }
  // The model's own packed bytes: one matrix of each type.
  std::map<Type, const Tensor*> first;
  for (const Tensor& tensor : checkpoint.tensors)
    if (info(tensor.type).quantized && tensor.shape.size() == 2) first.emplace(tensor.type, &tensor);
  for (const auto& [type, tensor] : first) {
    Case c{cat("model.", info(type).name),       cat("the first rows of ", tensor->name),     type,
           std::min(tensor->rows(), kModelRows), static_cast<std::size_t>(tensor->columns()), {}};
    c.packed.resize(static_cast<std::size_t>(c.rows) * c.stride());
    tensor->read_rows(0, c.rows, c.packed.data());
    cases.push_back(std::move(c));
  }
  return cases;
}

// --- activations -----------------------------------------------------------------------------------------------------

constexpr attar_activations kRoundings[] = {ATTAR_ACTIVATIONS_Q8_0, ATTAR_ACTIVATIONS_Q8_K, ATTAR_ACTIVATIONS_INT8_ROW};

bool divides(attar_activations kind, std::size_t columns) {
  return columns % (kind == ATTAR_ACTIVATIONS_Q8_K ? 256 : 32) == 0;
}

// Makes values that lie within a thousandth of a step of a tie a little smaller, so that every correct rounding gives
// the same bytes.
void avoid_ties(std::vector<float>& X, std::size_t columns) {
  for (bool moved = true; moved;) {
    moved = false;
    for (const attar_activations kind : kRoundings) {
      if (!divides(kind, columns)) continue;
      Activations rounded;
      rounded.round(static_cast<Rounding>(kind), X, kTokens);
      for (std::size_t i = 0; i < X.size(); ++i) {
        const double d = rounded.token(i / columns).d[i % columns / 32], steps = d == 0 ? 0 : X[i] / d;
        if (std::fabs(steps - std::floor(steps) - 0.5) >= 1e-3) continue;
        X[i] *= 0.998f;
        moved = true;
      }
    }
  }
}

// The third vector has an outlier, the fourth is zero.
std::vector<float> draw_activations(std::size_t columns, Random& random) {
  std::vector<float> X(kTokens * columns);
  for (float& v : X) v = static_cast<float>(random.uniform() + random.uniform() + random.uniform() - 1.5);
  X[2 * columns + random.below(columns)] = 60.0f;
  std::fill_n(X.begin() + 3 * static_cast<std::ptrdiff_t>(columns), columns, 0.0f);
  avoid_ties(X, columns);
  return X;
}

Tensor bytes_tensor(std::string name, std::int64_t rows, Bytes bytes) {
  const std::int64_t width = static_cast<std::int64_t>(bytes.size()) / rows;
  return make_tensor(std::move(name), QuantizedTensor{Type::kI8, {rows, width}, std::move(bytes)});
}

void need(attar_status status) {
  if (status != ATTAR_OK) fail("golden: ", attar_kernels_last_error());
}

void add_activations(const std::vector<float>& X, std::size_t columns, GoldenPart& part) {
  const std::string name = cat("activations.", columns);
  part.tensors.push_back(make_tensor(name, {kTokens, static_cast<std::int64_t>(columns)}, X));
  for (const attar_activations kind : kRoundings) {
    if (!divides(kind, columns)) continue;
    std::size_t size = 0;
    need(attar_activations_bytes(kind, columns, &size));
    Bytes bytes(kTokens * size);
    for (std::size_t t = 0; t < kTokens; ++t)
      need(attar_encode_activations(kind, X.data() + t * columns, columns, bytes.data() + t * size, size));
    part.tensors.push_back(bytes_tensor(cat(name, ".", kActivationNames[kind]), kTokens, std::move(bytes)));
  }
}

// --- products --------------------------------------------------------------------------------------------------------

// What an element counts for in the tolerance: with integers, a code above zero times the scale, and what takes it down again.
std::vector<float> magnitudes(const Case& c, std::int64_t r, const std::vector<float>& w, bool integers) {
  std::vector<float> result(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) result[i] = std::fabs(w[i]);
  if (!integers) return result;
  const GridInfo& grid = info(c.type).grid;
  const float below_zero = grid.codebook != nullptr ? 128.0f : std::fabs(static_cast<float>(grid.level_min));
  const RowGrid row = read_grid(c.type, c.row(r), c.columns);
  for (std::size_t i = 0; i < w.size(); ++i) {
    const std::size_t g = i / static_cast<std::size_t>(grid.group);
    result[i] += 2 * (below_zero * std::fabs(row.scale[g]) + std::fabs(row.offset[g]));
  }
  return result;
}

// Products with float activations are sums in double over decoded weights; with rounded ones the reference's.
void add_products(const Case& c, const std::vector<float>& values, const std::vector<float>& X, Rounding rounding,
                  GoldenPart& part) {
  const bool integers = rounding != Rounding::kNone;
  Activations x;
  x.round(rounding, X, kTokens);
  const auto rows = static_cast<std::size_t>(c.rows), block = static_cast<std::size_t>(info(c.type).block_weights),
             blocks = c.columns / block;
  std::vector<float> products(kTokens * rows), tolerance(products.size());
  std::vector<BlockSums> sums;
  std::vector<std::vector<float>> counts;
  for (std::int64_t r = 0; r < c.rows; ++r)
    counts.push_back(magnitudes(c, r,
                                {values.begin() + r * static_cast<std::ptrdiff_t>(c.columns),
                                 values.begin() + (r + 1) * static_cast<std::ptrdiff_t>(c.columns)},
                                integers));
  for (std::size_t t = 0; t < kTokens; ++t) {
    const RoundedVector v = x.token(t);
    for (std::size_t r = 0; r < rows; ++r) {
      double sum = 0, terms = 0;
      for (std::size_t i = 0; i < c.columns; ++i) {
        const double a = integers ? static_cast<double>(v.d[i / 32]) * v.q[i] : static_cast<double>(v.x[i]);
        sum += static_cast<double>(values[r * c.columns + i]) * a;
        terms += static_cast<double>(counts[r][i]) * std::fabs(a);
      }
      const ByteView row = c.row(static_cast<std::int64_t>(r));
      products[t * rows + r] = integers ? dot_integers(c.type, row.data(), v, c.columns) : static_cast<float>(sum);
      tolerance[t * rows + r] = static_cast<float>(kTolerance * terms);
      const std::size_t bytes = row.size() / blocks;
      for (std::size_t b = 0; integers && b < blocks; ++b)
        sums.push_back(block_sums(c.type, row.subspan(b * bytes, bytes), {v.q + b * block, block}));
    }
  }
  const std::string name = cat(c.name, ".", kActivationNames[static_cast<int>(rounding)]);
  part.tensors.push_back(make_tensor(name + ".products", {kTokens, c.rows}, std::move(products)));
  part.tensors.push_back(make_tensor(name + ".tolerance", {kTokens, c.rows}, std::move(tolerance)));
  if (!integers) return;
  static_assert(sizeof(BlockSums) == 8);
  const ByteView bytes{reinterpret_cast<const std::byte*>(sums.data()), sums.size() * sizeof(BlockSums)};
  part.tensors.push_back(make_tensor(
      name + ".integers",
      QuantizedTensor{
          Type::kI32, {kTokens, c.rows, static_cast<std::int64_t>(blocks), 2}, Bytes(bytes.begin(), bytes.end())}));
}

}  // namespace

GoldenPart golden_kernels(const Checkpoint& checkpoint, std::uint64_t seed) {
  Random random(seed);
  GoldenPart part;
  part.index["cases"] = nlohmann::json::array();
  std::map<std::size_t, std::vector<float>> activations;
  for (const Case& c : all_cases(checkpoint, random)) {
    std::vector<float>& X = activations[c.columns];
    if (X.empty()) {
      X = draw_activations(c.columns, random);
      add_activations(X, c.columns, part);
    }
    std::vector<float> values(static_cast<std::size_t>(c.rows) * c.columns);
    for (std::int64_t r = 0; r < c.rows; ++r)
      decode_row(c.type, c.row(r), Span<float>(values).subspan(static_cast<std::size_t>(r) * c.columns, c.columns));
    part.tensors.push_back(bytes_tensor(c.name + ".packed", c.rows, c.packed));
    part.tensors.push_back(make_tensor(c.name + ".values", {c.rows, static_cast<std::int64_t>(c.columns)}, values));
    nlohmann::json kinds = nlohmann::json::array();
    for (const Rounding rounding : {Rounding::kNone, Rounding::kQ8_0, Rounding::kQ8_K, Rounding::kRow}) {
      if (!can_multiply(c.type, rounding)) continue;
      kinds.push_back(kActivationNames[static_cast<int>(rounding)]);
      add_products(c, values, X, rounding, part);
    }
    part.index["cases"].push_back({{"name", c.name},
                                   {"type", info(c.type).name},
                                   {"rows", c.rows},
                                   {"columns", c.columns},
                                   {"source", c.source},
                                   {"activations", std::move(kinds)}});
  }
  return part;
}

}  // namespace attar::cli
