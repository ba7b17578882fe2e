#include "quantize/descent.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/half.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/quantize/support.h"

namespace attar {
namespace {

constexpr std::int64_t kColumns = 256;

class Rows : public ::testing::TestWithParam<Type> {
 protected:
  void SetUp() override {
    w = test::normal(1, kColumns, 5) * 0.05;
    X = test::correlated_inputs(1024, kColumns, 6);
    H = test::gram(X);
    H.diagonal().add_(0.1 * H.diagonal().mean());
    encoded = test::rtn_of(GetParam(), w).bytes;
    order.resize(kColumns);
    std::iota(order.begin(), order.end(), 0);
  }
  at::Tensor values(const PackedRow& row) const {
    at::Tensor q = at::empty({1, kColumns});
    for (std::int64_t j = 0; j < kColumns; ++j) q[0][j] = row.value(j);
    return q;
  }
  double loss(const PackedRow& row) const {
    const at::Tensor e = (w - values(row)).to(at::kDouble);
    return at::mm(at::mm(e, H.to(at::kDouble)), e.t()).item<double>();
  }
  at::Tensor run(PackedRow& row, int passes) const { return descend({&row, 1}, w, H, order, {passes, 0}); }
  at::Tensor w, X, H;
  Bytes encoded;
  std::vector<std::int64_t> order;
};

TEST_P(Rows, DecodeAsTheDecoderDoes) {
  const PackedRow row(GetParam(), encoded, kColumns);
  std::vector<float> decoded(kColumns);
  decode_row(GetParam(), encoded, decoded);
  for (std::int64_t j = 0; j < kColumns; ++j) EXPECT_EQ(row.value(j), decoded[static_cast<std::size_t>(j)]);
  Bytes written(encoded.size());
  row.write(written);
  EXPECT_EQ(written, encoded);
}

TEST_P(Rows, EveryPassLowersTheLoss) {
  double before = loss(PackedRow(GetParam(), encoded, kColumns));
  for (const int passes : {1, 2, 4, 50}) {
    PackedRow row(GetParam(), encoded, kColumns);
    run(row, passes);
    EXPECT_LE(loss(row), before * (1 + 1e-5)) << passes;
    before = loss(row);
  }
  EXPECT_LT(before, 0.7 * loss(PackedRow(GetParam(), encoded, kColumns)));
}

TEST_P(Rows, ScalesGainBeyondCodes) {
  PackedRow codes(GetParam(), encoded, kColumns), all(GetParam(), encoded, kColumns);
  run(codes, 1);
  run(all, 50);
  EXPECT_LT(loss(all), loss(codes));
  Bytes written(encoded.size());
  all.write(written);
  const PackedRow again(GetParam(), written, kColumns);
  EXPECT_EQ(loss(again), loss(all)) << "what was descended to is not what the bytes hold";
}

// Where it stops no single code is better, and of no number that a block stores the value before or after: the definition of the optimum.
TEST_P(Rows, EndsWhereNothingSingleHelps) {
  PackedRow row(GetParam(), encoded, kColumns);
  EXPECT_TRUE(run(row, 200).equal(w - values(row)));
  const double best = loss(row), slack = 1e-5 * best;
  for (std::int64_t j = 0; j < kColumns; ++j) {
    const int code = row.code(j);
    for (const int other : {code - 1, code + 1}) {
      if (other < 0 || other >= row.grid().levels) continue;
      row.set_code(j, other);
      EXPECT_GE(loss(row), best - slack) << "code of column " << j;
    }
    row.set_code(j, code);
  }
  const GridInfo& grid = row.grid();
  const auto neighbour = [](float half, int step) { return f32_from_f16(static_cast<std::uint16_t>(f16_from_f32(half) + step)); };
  for (std::size_t b = 0; b < row.blocks().size(); ++b) {
    const BlockScales scales = row.blocks()[b];
    const auto expect_worse = [&](const BlockScales& other, const char* what, std::int64_t k) {
      row.set_block(static_cast<std::int64_t>(b), other);
      EXPECT_GE(loss(row), best - slack) << what << " " << k << " of block " << b;
      row.set_block(static_cast<std::int64_t>(b), scales);
    };
    for (const int step : {-1, 1}) {
      BlockScales other = scales;
      other.d = neighbour(scales.d, step);
      expect_worse(other, "d", 0);
      other = scales;
      other.dmin = neighbour(scales.dmin, step);
      if (grid.has_offset && scales.dmin != 0) expect_worse(other, "dmin", 0);
      for (std::int64_t k = 0; grid.scale_max > grid.scale_min && k < row.block_weights() / row.group_weights(); ++k) {
        other = scales;
        other.sc[k] = static_cast<std::int8_t>(scales.sc[k] + step);
        if (other.sc[k] >= grid.scale_min && other.sc[k] <= grid.scale_max) expect_worse(other, "sc", k);
        other = scales;
        other.m[k] = static_cast<std::int8_t>(scales.m[k] + step);
        if (grid.has_offset && other.m[k] >= 0 && other.m[k] <= grid.scale_max) expect_worse(other, "m", k);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Rows, ::testing::ValuesIn(test::sample_types()), test::TypeName());

}  // namespace
}  // namespace attar
