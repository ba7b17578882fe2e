#include "convert/slices.h"

#include <numeric>
#include <thread>

#include "base/error.h"
#include "kernels_ref/types.h"
#include "tests/convert/bytes.h"

namespace attar {
namespace {

Tensor numbered(std::int64_t rows, std::int64_t columns, float first) {
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  std::iota(values.begin(), values.end(), first);
  return make_tensor("numbered", {rows, columns}, std::move(values));
}

// Larger than a slice, as small as can be, and of no rows.
TEST(Slices, AllBytesComeInOrder) {
  const Tensor large = numbered(3000, 1000, 0), small = numbered(1, 3, -7), none = numbered(0, 5, 0);
  Bytes expected, got;
  const auto expect = [&](ByteView bytes) { expected.insert(expected.end(), bytes.begin(), bytes.end()); };
  const std::thread::id here = std::this_thread::get_id();
  bool elsewhere = false;
  Slices slices([&](ByteView bytes) {
    got.insert(got.end(), bytes.begin(), bytes.end());
    elsewhere |= std::this_thread::get_id() != here;
  });
  for (const Tensor* tensor : {&small, &large, &none, &small, &large}) {
    slices.add(as_bytes("between"));
    slices.add(*tensor, Type::kF32);
    expect(as_bytes("between"));
    expect(read_packed(*tensor).bytes);
    EXPECT_EQ(slices.size(), expected.size());
  }
  slices.finish();
  EXPECT_TRUE(got == expected);
  EXPECT_TRUE(elsewhere);
  slices.add(as_bytes("more"));
  slices.finish();
  EXPECT_EQ(got.size(), expected.size() + 4);
}

TEST(Slices, RowsAreConverted) {
  const Tensor tensor = numbered(5, 64, -100);
  Bytes got, expected(5 * row_bytes(Type::kQ8_0, 64));
  const std::vector<float> values = read_floats(tensor);
  for (std::size_t r = 0; r < 5; ++r)
    encode_row(Type::kQ8_0, std::span(values).subspan(r * 64, 64), {}, std::span(expected).subspan(r * 68, 68));
  Slices slices([&](ByteView bytes) { got.insert(got.end(), bytes.begin(), bytes.end()); });
  slices.add(tensor, Type::kQ8_0);
  slices.finish();
  EXPECT_TRUE(got == expected);
}

TEST(Slices, WhatTheTypeCannotHoldIsNamed) {
  Slices slices([](ByteView) {});
  const Tensor tensor = make_tensor("w", {2, 32}, std::vector<float>(64, 1e30f));
  EXPECT_ERROR(slices.add(tensor, Type::kQ4_0), "write w as q4_0: row 0");
}

TEST(Slices, AnErrorOfTheSinkIsThrown) {
  const Tensor large = numbered(3000, 1000, 0);
  Slices slices([](ByteView) { fail("the disk is full"); });
  EXPECT_ERROR((slices.add(large, Type::kF32), slices.add(large, Type::kF32), slices.finish()), "the disk is full");
}

}  // namespace
}  // namespace attar
