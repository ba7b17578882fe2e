#include "quantize/cholesky.h"

#include <gtest/gtest.h>

#include "base/threads.h"
#include "model/decoder.h"
#include "tests/quantize/support.h"

namespace attar {
namespace {

at::Tensor positive(std::int64_t n) {
  const at::Tensor X = test::normal(2 * n, n, 3).to(at::kDouble);
  return at::mm(X.t(), X);
}

at::Tensor lower(Triangle& A) {
  at::Tensor result = at::zeros({A.size(), A.size()}, at::kDouble);
  for (std::int64_t i = 0; i < A.size(); ++i) std::copy_n(A.row(i), i + 1, result.data_ptr<double>() + i * A.size());
  return result;
}

// Sizes below, at, and beyond one tile, and with a last tile that is not full.
TEST(Cholesky, IsLapacksFactor) {
  const OneTorchThread one_thread;
  for (const std::int64_t n : {1, 7, 256, 300, 700}) {
    const at::Tensor A = positive(n);
    Triangle L(A);
    ASSERT_TRUE(cholesky_in_place(L)) << n;
    const at::Tensor expected = at::linalg_cholesky(A);
    EXPECT_LT((lower(L) - expected).abs().max().item<double>(), 1e-10 * expected.abs().max().item<double>()) << n;
  }
}

TEST(Cholesky, UnitUpperFactorsAndDivides) {
  const OneTorchThread one_thread;
  for (const std::int64_t n : {1, 7, 300}) {
    const at::Tensor H = positive(n) + n * at::eye(n, at::kDouble);
    Triangle L(H.flip({0, 1}));
    ASSERT_TRUE(cholesky_in_place(L)) << n;
    const UnitUpper factor = unit_upper(std::move(L));
    const at::Tensor U = factor.U.to(at::kDouble), D = factor.D.to(at::kDouble);
    EXPECT_TRUE(at::equal(U, at::triu(U)));
    EXPECT_TRUE(at::equal(U.diagonal(), at::ones({n}, at::kDouble)));
    EXPECT_LT((at::mm(U * D.square(), U.t()) - H).norm().item<double>(), 1e-6 * H.norm().item<double>()) << n;
    const at::Tensor B = test::normal(5, n, 4);
    EXPECT_LT((at::mm(divide(B, factor).to(at::kDouble), H) - B).norm().item<double>(), 1e-5 * B.norm().item<double>()) << n;
  }
}

TEST(Cholesky, ReadsTheLowerTriangleOnly) {
  const at::Tensor A = positive(300);
  Triangle clean(A), dirty(at::tril(A) + at::triu(at::full_like(A, 1e300), 1));
  ASSERT_TRUE(cholesky_in_place(clean));
  ASSERT_TRUE(cholesky_in_place(dirty));
  EXPECT_TRUE(at::equal(lower(clean), lower(dirty)));
  EXPECT_TRUE(at::equal(unit_upper(std::move(clean)).U, unit_upper(std::move(dirty)).U));
}

TEST(Cholesky, SaysWhenThereIsNone) {
  for (const std::int64_t at : {0, 299, 599}) {
    at::Tensor A = positive(600);
    A[at][at] = -1.0;
    Triangle L(A);
    EXPECT_FALSE(cholesky_in_place(L)) << at;
  }
}

TEST(Cholesky, SameAtAnyNumberOfThreads) {
  const OneTorchThread one_thread;
  const int before = thread_count();
  std::vector<at::Tensor> all;
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    Triangle L(positive(900));
    ASSERT_TRUE(cholesky_in_place(L));
    all.push_back(lower(L));
  }
  set_thread_count(before);
  EXPECT_TRUE(at::equal(all[0], all[1]));
  EXPECT_TRUE(at::equal(all[0], all[2]));
}

}  // namespace
}  // namespace attar
