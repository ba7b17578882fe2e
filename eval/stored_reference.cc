// The file: 8 bytes "ATTARREF", u32 version, u64 length of the header, the header (JSON), then for each sequence u32 its number of
// tokens and the tokens (u32), then for each position u16 its length and its bytes:
//
//   f64 ln p(target)   f32 T   u8 number of drawn tokens m   u8 number of top tokens less one
//   top tokens, most probable first: id, and by how much ln p is below the one before (varint; the first: below 0)
//   drawn tokens: id, and -ln p (varint)
//
// An id is u16 for vocabularies up to 65536 entries, else u16 and u8 (the high bits). ln p counts in steps of 1/1024 nat.
#include "eval/stored_reference.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "convert/json.h"

namespace attar {
namespace {

constexpr std::string_view kMagic = "ATTARREF";
constexpr std::uint32_t kVersion = 2;
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

Bytes encode_position(std::span<const float> logits, std::int64_t target, std::size_t slot) {
  const RowNorm norm = row_norm(logits);
  if (!norm.finite) fail("eval: the model's logits at scored position ", slot, " are not finite; its weights are damaged");
  const auto vocab = static_cast<std::int64_t>(logits.size());
  const auto log_p = [&](std::size_t i) { return std::min(0.0, static_cast<double>(logits[i]) - norm.log_Z); };

  // Equal logits are ordered by id, so that the first is the row's top token.
  thread_local std::vector<std::uint32_t> order;
  order.resize(logits.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto better = [&](std::uint32_t a, std::uint32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; };
  const std::size_t most = std::min(kTop, logits.size());
  if (most < order.size()) std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), order.end(), better);
  std::sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), better);
  std::size_t top = 0;
  double mass = 0;
  while (top < most && (top == 0 || 1 - mass > kTailMass)) mass += std::exp(log_p(order[top++]));
  // The tail's probabilities in the order of ids: sums do not depend on how nth_element left it.
  thread_local std::vector<double> rest;
  rest.resize(logits.size());
  for (std::size_t i = 0; i < rest.size(); ++i) rest[i] = std::exp(log_p(i));
  for (std::size_t i = 0; i < top; ++i) rest[order[i]] = 0;
  const double tail = std::accumulate(rest.begin(), rest.end(), 0.0);

  ByteWriter out;
  out.write(-score_row(logits, target).nll);  // to the last bit: a model has the perplexity of its own file
  out.write(static_cast<float>(tail));
  const std::size_t draws = tail > kTailMass ? kTailSamples : 0;
  out.write(static_cast<std::uint8_t>(draws));
  out.write(static_cast<std::uint8_t>(top - 1));
  std::uint32_t above = 0;
  for (std::size_t i = 0; i < top; ++i) {
    const std::uint32_t below = std::max(above, steps(log_p(order[i])));
    write_id(out, order[i], vocab);
    write_varint(out, below - above);
    above = below;
  }
  // One draw in each of `draws` equal parts of the tail's mass.
  Random random(slot);
  std::size_t last = rest.size();  // one past the last token of the tail, which takes what rounding leaves
  while (last > 0 && rest[last - 1] == 0) --last;
  double sum = 0, next = tail * random.uniform() / static_cast<double>(draws);
  std::size_t drawn = 0;
  for (std::size_t i = 0; i < last && drawn < draws; ++i) {
    sum += rest[i];
    for (; drawn < draws && (sum > next || i + 1 == last); ++drawn) {
      write_id(out, static_cast<std::int64_t>(i), vocab);
      write_varint(out, steps(log_p(i)));
      next = tail * (static_cast<double>(drawn) + 1 + random.uniform()) / static_cast<double>(draws);
    }
  }
  return out.bytes();
}

PairScore StoredReference::score(std::size_t slot, std::span<const float> logits, std::int64_t target) const {
  const RowNorm norm = row_norm(logits);
  PairScore result;
  result.model = score_row(logits, target);
  ByteReader in(positions_[slot], cat(file_.path().string(), ", position ", slot));
  result.reference.nll = -in.read<double>("ln p");
  const double tail = in.read<float>("tail");
  const std::size_t draws = in.read<std::uint8_t>("draws"), top = in.read<std::uint8_t>("top") + std::size_t{1};
  const auto log_q = [&](std::size_t i) { return static_cast<double>(logits[i]) - norm.log_Z; };

  double kl = 0, accepted = 0, mass = 0, top_q = 0;
  std::uint32_t below = 0;
  for (std::size_t i = 0; i < top; ++i) {
    const std::size_t id = read_id(in, model_.vocab_size);
    below += read_varint(in);
    if (i == 0) result.reference.top = static_cast<std::int64_t>(id);
    const double log_p = -kStep * below, p = std::exp(log_p), q = std::exp(log_q(id));
    kl += p * (log_p - log_q(id));
    accepted += std::min(p, q);
    mass += p, top_q += q;
  }
  double drawn_kl = 0, drawn_accepted = 0;
  for (std::size_t i = 0; i < draws; ++i) {
    const std::size_t id = read_id(in, model_.vocab_size);
    const double log_p = -kStep * read_varint(in);
    drawn_kl += log_p - log_q(id);
    drawn_accepted += std::min(1.0, std::exp(log_q(id) - log_p));
  }
  if (draws > 0) {
    kl += tail * drawn_kl / static_cast<double>(draws);
    accepted += tail * drawn_accepted / static_cast<double>(draws);
  } else if (tail > 0) {  // too little to matter: as if it were one token
    const double rest = std::max(1 - top_q, 1e-30);
    kl += tail * std::log(tail / rest);
    accepted += std::min(tail, rest);
  }
  const double sum = mass + tail;  // not quite 1, as ln p is stored in steps
  result.kl = kl / sum - std::log(sum);
  result.acceptance = std::min(1.0, accepted / sum);
  return result;
}

void write_reference(const fs::path& path, const ModelSummary& model, const Protocol& protocol, const TextPlan& plan,
                     const std::vector<Bytes>& positions) {
  ByteWriter body;
  for (const Sequence& s : plan.sequences) {
    for (const std::size_t n : {s.unit, s.ids.size(), static_cast<std::size_t>(s.begin), static_cast<std::size_t>(s.end)})
      body.write(static_cast<std::uint32_t>(n));
    for (const std::int64_t id : s.ids) body.write(static_cast<std::uint32_t>(id));
  }
  for (const Bytes& position : positions) {
    body.write(static_cast<std::uint16_t>(position.size()));
    body.append(position);
  }
  const nlohmann::json header{{"model", to_json(model)},
                              {"protocol", to_json(protocol)},
                              {"bytes", plan.bytes},
                              {"words", plan.words},
                              {"sequences", plan.sequences.size()},
                              {"body_hash", content_hash(body.bytes())}};
  const std::string text = header.dump();
  ByteWriter head;
  head.append(as_bytes(kMagic));
  head.write(kVersion);
  head.write(static_cast<std::uint64_t>(text.size()));
  OutputFile file(path);
  file.write(head.bytes());
  file.write(text);
  file.write(body.bytes());
  file.commit();
}

bool is_reference_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic(kMagic.size(), ' ');
  return file.read(magic.data(), static_cast<std::streamsize>(magic.size())) && magic == kMagic;
}

StoredReference::StoredReference(const fs::path& path) : file_(path) {
  const std::string what = cat("reference ", path.string());
  ByteReader in(file_.bytes(), what);
  if (in.remaining() < kMagic.size() || as_text(in.take(kMagic.size(), "magic")) != kMagic)
    fail(what, " is no file that --save-reference wrote");
  if (const auto version = in.read<std::uint32_t>("version"); version != kVersion)
    fail(what, " has version ", version, "; this program reads ", kVersion, ": save it again");
  const auto length = in.read<std::uint64_t>("header's length");
  const nlohmann::json json = parse_json(as_text(in.take(length, "header")), what);
  const JsonReader header(json, what);
  if (header.text("body_hash") != content_hash(file_.bytes().subspan(in.offset())))
    fail(what, " is damaged: its content does not have the hash in its header");
  model_ = read_model_summary(header.object("model"));
  protocol_ = read_protocol(header.object("protocol"));
  plan_.bytes = header.numbers("bytes"), plan_.words = header.numbers("words");
  const std::int64_t sequences = header.integer("sequences", 1, 1ll << 32), vocab = model_.vocab_size;
  std::int64_t positions = 0;
  for (std::int64_t s = 0; s < sequences; ++s) {
    Sequence sequence;
    sequence.unit = in.read<std::uint32_t>("unit");
    const auto size = in.read<std::uint32_t>("number of tokens");
    sequence.begin = in.read<std::uint32_t>("begin"), sequence.end = in.read<std::uint32_t>("end");
    if (sequence.begin >= sequence.end || sequence.end >= size || sequence.unit >= plan_.bytes.size() ||
        plan_.bytes.size() != plan_.words.size())
      fail(what, ": sequence ", s, " contradicts itself; the file is damaged");
    ByteReader ids(in.take(std::uint64_t{size} * 4, "tokens"), what);
    while (ids.remaining() > 0) {
      sequence.ids.push_back(ids.read<std::uint32_t>("token"));
      if (sequence.ids.back() >= vocab) fail(what, ": token ", sequence.ids.back(), " is outside the vocabulary of ", vocab);
    }
    positions += sequence.end - sequence.begin;
    plan_.sequences.push_back(std::move(sequence));
  }
  for (std::int64_t p = 0; p < positions; ++p) positions_.push_back(in.take(in.read<std::uint16_t>("length"), "position"));
  if (in.remaining() != 0) fail(what, ": ", in.remaining(), " bytes are left over; the file is damaged");
}

}  // namespace attar
