// The bytes: f32 T   u8 number of drawn tokens   u8 number of top tokens less one
//   top tokens, most probable first: id, and by how much ln p is below the one before (varint; the first: below 0)
//   drawn tokens: id, and -ln p (varint)
// An id is u16 for vocabularies up to 65536 entries, else u16 and u8 (the high bits). ln p counts in steps of 1/1024 nat.
#include "eval/sparse_row.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace attar {
namespace {

constexpr double kStep = 1.0 / 1024;
constexpr std::int64_t kNarrow = 65536;

void write_varint(ByteWriter& out, std::uint32_t value) {
  for (; value >= 0x80; value >>= 7) out.write(static_cast<std::uint8_t>(value | 0x80));
  out.write(static_cast<std::uint8_t>(value));
}

std::uint32_t read_varint(ByteReader& in) {
  std::uint32_t value = 0;
  for (int shift = 0; shift < 32; shift += 7) {
    const auto byte = in.read<std::uint8_t>("number");
    value |= std::uint32_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  fail(in.what(), ": a number at byte ", in.offset(), " does not end; the file is damaged");
}

void write_id(ByteWriter& out, std::int64_t id, std::int64_t vocab) {
  out.write(static_cast<std::uint16_t>(id));
  if (vocab > kNarrow) out.write(static_cast<std::uint8_t>(id >> 16));
}

std::size_t read_id(ByteReader& in, std::int64_t vocab) {
  std::size_t id = in.read<std::uint16_t>("id");
  if (vocab > kNarrow) id |= std::size_t{in.read<std::uint8_t>("id")} << 16;
  if (id >= static_cast<std::size_t>(vocab)) fail(in.what(), ": token id ", id, " is outside the vocabulary of ", vocab);
  return id;
}

std::uint32_t steps(double log_p) { return static_cast<std::uint32_t>(std::lround(std::min(-log_p, 1e6) / kStep)); }

}  // namespace

void write_sparse(ByteWriter& out, std::span<const float> logits, const RowNorm& norm, const SparseOptions& options,
                  std::uint64_t seed) {
  const auto vocab = static_cast<std::int64_t>(logits.size());
  const auto log_p = [&](std::size_t i) { return std::min(0.0, static_cast<double>(logits[i]) - norm.log_Z()); };

  // Equal logits are ordered by id, so that the first is the row's top token.
  thread_local std::vector<std::uint32_t> order;
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto better = [&](std::uint32_t a, std::uint32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  const std::size_t most = std::min(options.top, logits.size());
  if (most < order.size()) std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), order.end(), better);
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), better);
  std::size_t top = 0;
  double mass = 0;
  while (top < most && (top == 0 || 1 - mass > options.tail)) mass += std::exp(log_p(order[top++]));
  // The tail in the order of ids: sums do not depend on how nth_element left it.
  std::vector<std::uint32_t> head(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top));
  std::sort(head.begin(), head.end());
  const auto for_tail = [&](const auto& visit) {
    auto skip = head.begin();
    for (std::uint32_t i = 0; i < logits.size(); ++i) {
      if (skip != head.end() && *skip == i)
        ++skip;
      else
        visit(i);
    }
  };
  double tail = 0;
  for_tail([&](std::uint32_t i) { tail += std::exp(log_p(i)); });

  out.write(static_cast<float>(tail));
  const std::size_t draws = tail > options.tail ? options.draws : 0;
  out.write(static_cast<std::uint8_t>(draws));
  out.write(static_cast<std::uint8_t>(top - 1));
  std::uint32_t above = 0;
  for (std::size_t i = 0; i < top; ++i) {
    const std::uint32_t below = std::max(above, steps(log_p(order[i])));
    write_id(out, order[i], vocab);
    write_varint(out, below - above);
    above = below;
  }
  if (draws == 0) return;
  // One draw in each of `draws` equal parts of the tail's mass.
  Random random(seed);
  double sum = 0, next = tail * random.uniform() / static_cast<double>(draws);
  std::size_t drawn = 0, left = logits.size() - top;
  for_tail([&](std::uint32_t i) {
    if (drawn == draws) return;
    sum += std::exp(log_p(i));
    --left;
    for (; drawn < draws && (sum > next || left == 0); ++drawn) {
      write_id(out, i, vocab);
      write_varint(out, steps(log_p(i)));
      next = tail * (static_cast<double>(drawn) + 1 + random.uniform()) / static_cast<double>(draws);
    }
  });
}

SparseRow read_sparse(ByteReader& in, std::int64_t vocab) {
  SparseRow row;
  row.tail = in.read<float>("tail");
  row.drawn.resize(in.read<std::uint8_t>("draws"));
  row.top.resize(in.read<std::uint8_t>("top") + std::size_t{1});
  std::uint32_t below = 0;
  for (auto& [id, log_p] : row.top) {
    id = read_id(in, vocab);
    below += read_varint(in);
    log_p = -kStep * below;
  }
  for (auto& [id, log_p] : row.drawn) {
    id = read_id(in, vocab);
    log_p = -kStep * read_varint(in);
  }
  return row;
}

}  // namespace attar
