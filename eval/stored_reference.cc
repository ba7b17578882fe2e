// The file: 8 bytes "ATTARREF", u32 version, 32 hex digits: the hash of all that follows; u64 length of the header, the header (JSON), then
// for each sequence u32 its unit, number of tokens, first and last position, and the tokens (u32), then for each position u16 its length and
// its bytes:
//
//   f64 ln p(target)   and what sparse_row.cc writes of the distribution
#include "eval/stored_reference.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "base/error.h"
#include "base/text.h"
#include "convert/json.h"
#include "eval/sparse_row.h"

namespace attar {
namespace {

constexpr std::string_view kMagic = "ATTARREF";
constexpr std::uint32_t kVersion = 3;
constexpr std::size_t kHashDigits = 32;

}  // namespace

Bytes encode_position(std::span<const float> logits, std::int64_t target, std::size_t slot) {
  const RowNorm norm = row_norm(logits);
  if (!norm.finite) fail("eval: the model's logits at scored position ", slot, " are not finite; its weights are damaged");
  ByteWriter out;
  out.write(-token_score(norm, logits[static_cast<std::size_t>(target)]).nll);  // to the last bit: a model has the perplexity of its own file
  write_sparse(out, logits, norm, {}, slot);
  return out.bytes();
}

PairScore StoredReference::score(std::size_t slot, std::span<const float> logits, std::int64_t target) const {
  const RowNorm norm = row_norm(logits);
  PairScore result;
  result.model = token_score(norm, logits[static_cast<std::size_t>(target)]);
  ByteReader in(positions_[slot], cat(file_.path().string(), ", position ", slot));
  result.reference.nll = -in.read<double>("ln p");
  const SparseRow p = read_sparse(in, model_.vocab_size);
  const auto log_q = [&](std::size_t i) { return static_cast<double>(logits[i]) - norm.log_Z(); };

  result.reference.top = static_cast<std::int64_t>(p.top.front().id);
  double kl = 0, accepted = 0, mass = 0, top_q = 0;
  for (const auto& [id, log_p] : p.top) {
    kl += std::exp(log_p) * (log_p - log_q(id));
    accepted += std::min(std::exp(log_p), std::exp(log_q(id)));
    mass += std::exp(log_p), top_q += std::exp(log_q(id));
  }
  double drawn_kl = 0, drawn_accepted = 0;
  for (const auto& [id, log_p] : p.drawn) {
    drawn_kl += log_p - log_q(id);
    drawn_accepted += std::min(1.0, std::exp(log_q(id) - log_p));
  }
  const double tail = p.tail;
  if (!p.drawn.empty()) {
    kl += tail * drawn_kl / static_cast<double>(p.drawn.size());
    accepted += tail * drawn_accepted / static_cast<double>(p.drawn.size());
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
                              {"sequences", plan.sequences.size()}};
  const std::string text = header.dump();
  ByteWriter length, head;
  length.write(static_cast<std::uint64_t>(text.size()));
  ContentHash hash;
  hash.add(length.bytes()), hash.add(text), hash.add(body.bytes());
  head.append(as_bytes(kMagic));
  head.write(kVersion);
  head.append(as_bytes(hash.hex()));
  OutputFile file(path);
  for (const ByteView part : {ByteView(head.bytes()), ByteView(length.bytes()), as_bytes(text), ByteView(body.bytes())}) file.write(part);
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
  const std::string_view hash = as_text(in.take(kHashDigits, "hash"));
  if (hash != content_hash(file_.bytes().subspan(in.offset()))) fail(what, " is damaged: its content does not have the hash that it names");
  const auto length = in.read<std::uint64_t>("header's length");
  const nlohmann::json json = parse_json(as_text(in.take(length, "header")), what);
  const JsonReader header(json, what);
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
