// A shard: 8 bytes "ATTARLGT", u32 version, u32 length of the header, the header (JSON: teacher, tokenizer, vocab), then entries:
//
//   32 characters: key   32 characters: hash of the payload   u32 positions   u32 length of the payload   the payload:
//   its positions, one behind the other, as eval/sparse_row.cc writes them
//
// Its name ends in a hash of its content: two runs that fill one folder at the same time do not disturb each other.
#include "distill/logit_cache.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "base/threads.h"
#include "convert/json.h"
#include "distill/batch.h"
#include "distill/vocabulary_loss.h"

namespace attar {
namespace {

constexpr std::string_view kMagic = "ATTARLGT";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHashSize = 32;
constexpr const char* kExtension = ".logits";

std::string key_of(const Chunk& chunk, double temperature) {
  ContentHash hash;
  hash.add(cat("top ", kCached.top, " draws ", kCached.draws, " tail ", kCached.tail, " temperature "));
  hash.add(ByteView(reinterpret_cast<const std::byte*>(&temperature), sizeof temperature));
  // The last token is only a target: the teacher never sees it.
  hash.add(ByteView(reinterpret_cast<const std::byte*>(chunk.ids.data()), (chunk.ids.size() - 1) * sizeof(chunk.ids[0])));
  if (!chunk.starts.empty()) hash.add(ByteView(reinterpret_cast<const std::byte*>(chunk.starts.data()), chunk.starts.size() * sizeof(chunk.starts[0])));
  return hash.hex();
}

// Rows of logits -> what is kept of them. seeds and out: one for each row.
void encode_rows(const at::Tensor& logits, double temperature, const std::uint64_t* seeds, Bytes* out) {
  const at::Tensor scaled = (temperature == 1 ? logits : logits / temperature).cpu().contiguous();
  const auto columns = static_cast<std::size_t>(scaled.size(1));
  parallel_for(scaled.size(0), [&](std::int64_t row) {
    const std::span<const float> z(scaled.data_ptr<float>() + static_cast<std::size_t>(row) * columns, columns);
    const RowNorm norm = row_norm(z);
    if (!norm.finite) fail("[distill] the teacher's logits are not finite; its weights are damaged");
    ByteWriter bytes;
    write_sparse(bytes, z, norm, kCached, seeds[row]);
    out[row] = bytes.bytes();
  });
}

// The weights of KL(p || q), which sum to one: ln p is stored in steps, and a small tail is left out.
struct Weighted {
  std::vector<std::int64_t> ids;
  std::vector<float> log_p, weight;
};
Weighted weighted(const SparseRow& row) {
  Weighted w;
  double sum = 0;
  for (const auto& entry : row.top) sum += std::exp(entry.log_p);
  if (!row.drawn.empty()) sum += row.tail;
  const auto add = [&](const SparseRow::Entry& entry, double weight) {
    w.ids.push_back(static_cast<std::int64_t>(entry.id));
    w.log_p.push_back(static_cast<float>(entry.log_p - std::log(sum)));
    w.weight.push_back(static_cast<float>(weight / sum));
  };
  for (const auto& entry : row.top) add(entry, std::exp(entry.log_p));
  for (const auto& entry : row.drawn) add(entry, row.tail / static_cast<double>(row.drawn.size()));
  return w;
}

}  // namespace

LogitCache::LogitCache(fs::path folder, CacheIdentity identity) : folder_(std::move(folder)), identity_(std::move(identity)) {
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) fail("[distill] cannot make the cache folder ", folder_.string(), ": ", error.message());
  std::vector<fs::path> files;
  for (const auto& file : fs::directory_iterator(folder_))
    if (file.path().extension() == kExtension) files.push_back(file.path());
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) open_shard(file);
}

void LogitCache::open_shard(const fs::path& path) {
  const std::string what = cat("cache ", path.string());
  auto file = std::make_unique<MappedFile>(path);
  ByteReader in(file->bytes(), what);
  if (in.remaining() < kMagic.size() || as_text(in.take(kMagic.size(), "magic")) != kMagic) fail(what, " is no shard of a logit cache; remove it");
  if (const auto version = in.read<std::uint32_t>("version"); version != kVersion)
    fail(what, " has version ", version, "; this program reads ", kVersion, ": fill another folder");
  const auto length = in.read<std::uint32_t>("header's length");
  const nlohmann::json json = parse_json(as_text(in.take(length, "header")), what);
  const JsonReader header(json, what);
  const auto check = [&](const char* name, const std::string& found, const std::string& expected) {
    if (found != expected)
      fail(what, " is of another ", name, ": ", found, ", now ", expected, "; use another folder for this one");
  };
  check("tokenizer", header.text("tokenizer"), identity_.tokenizer);
  check("teacher", header.text("teacher"), identity_.teacher);
  check("vocabulary", std::to_string(header.integer("vocab", 1, 1ll << 32)), std::to_string(identity_.vocab));
  while (in.remaining() > 0) {
    const std::string key(as_text(in.take(kHashSize, "key"))), hash(as_text(in.take(kHashSize, "hash")));
    const auto positions = in.read<std::uint32_t>("positions"), size = in.read<std::uint32_t>("length");
    const ByteView payload = in.take(size, "entry");
    if (entries_.emplace(key, Entry{file.get(), payload, hash}).second) tokens_ += positions;
  }
  bytes_ += file->bytes().size();
  shards_.push_back(std::move(file));
}

bool LogitCache::contains(const Chunk& chunk, double temperature) const {
  const std::string key = key_of(chunk, temperature);
  return entries_.contains(key) || waiting_.contains(key);
}

void LogitCache::add(const Chunk& chunk, double temperature, const std::vector<Bytes>& positions) {
  Bytes payload;
  for (const Bytes& position : positions) payload.insert(payload.end(), position.begin(), position.end());
  const std::string key = key_of(chunk, temperature);
  pending_.append(as_bytes(key));
  pending_.append(as_bytes(content_hash(payload)));
  pending_.write(static_cast<std::uint32_t>(positions.size()));
  pending_.write(static_cast<std::uint32_t>(payload.size()));
  pending_.append(payload);
  waiting_.insert(key);
}

void LogitCache::flush_if_full() {
  if (pending_.bytes().size() >= kShardSize) flush();
}

void LogitCache::flush() {
  if (waiting_.empty()) return;
  const std::string header =
      nlohmann::json{{"teacher", identity_.teacher}, {"tokenizer", identity_.tokenizer}, {"vocab", identity_.vocab}}.dump();
  ByteWriter head;
  head.append(as_bytes(kMagic));
  head.write(kVersion);
  head.write(static_cast<std::uint32_t>(header.size()));
  head.append(as_bytes(header));
  const fs::path path = folder_ / cat("shard-", content_hash(pending_.bytes()), kExtension);
  OutputFile out(path);
  out.write(head.bytes());
  out.write(pending_.bytes());
  out.commit();
  pending_ = ByteWriter();
  waiting_.clear();
  open_shard(path);
}

TeacherRows LogitCache::rows(const std::vector<Chunk>& chunks, double temperature, const at::Device& device) const {
  std::vector<Weighted> rows;
  for (const Chunk& chunk : chunks) {
    const auto found = entries_.find(key_of(chunk, temperature));
    if (found == entries_.end()) fail("[distill] cache ", folder_.string(), " does not hold a chunk that is asked for; a shard was removed?");
    const Entry& entry = found->second;
    const std::string what = cat("cache ", entry.file->path().string());
    if (content_hash(entry.payload) != entry.hash)
      fail(what, " is damaged: an entry does not have the hash it was written with; remove the file, and what it held is captured again");
    ByteReader in(entry.payload, what);
    for (std::size_t i = 0; i + 1 < chunk.ids.size(); ++i) rows.push_back(weighted(read_sparse(in, identity_.vocab)));
  }
  std::size_t kept = 1;
  for (const Weighted& row : rows) kept = std::max(kept, row.ids.size());
  const auto shape = {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(kept)};
  TeacherRows result{{}, at::zeros(shape, at::kLong), at::zeros(shape, at::kFloat), at::zeros(shape, at::kFloat)};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy(rows[i].ids.begin(), rows[i].ids.end(), result.ids.data_ptr<std::int64_t>() + i * kept);
    std::copy(rows[i].log_p.begin(), rows[i].log_p.end(), result.log_p.data_ptr<float>() + i * kept);
    std::copy(rows[i].weight.begin(), rows[i].weight.end(), result.weight.data_ptr<float>() + i * kept);
  }
  return {{}, result.ids.to(device), result.log_p.to(device), result.weight.to(device)};
}

void capture(LogitCache& cache, Decoder& teacher, const std::vector<Chunk>& chunks, double temperature, std::int64_t batch) {
  const at::NoGradGuard no_grad;
  const OutputHead head = output_head(teacher);
  const std::int64_t step = logit_rows(teacher.device(), head.W.size(0)), columns = std::min(cache.identity().vocab, head.W.size(0));
  for (std::size_t begin = 0; begin < chunks.size(); begin += static_cast<std::size_t>(batch)) {
    const std::size_t count = std::min(static_cast<std::size_t>(batch), chunks.size() - begin);
    const std::vector<Chunk> part(chunks.begin() + static_cast<std::ptrdiff_t>(begin), chunks.begin() + static_cast<std::ptrdiff_t>(begin + count));
    const Batch asked = make_batch(part, teacher.device());
    const Packed packed(asked, {&teacher});
    const std::int64_t time = asked.ids.size(1);
    const at::Tensor h = teacher.hidden_states(asked.ids).reshape({-1, head.W.size(1)});
    std::vector<Bytes> positions(static_cast<std::size_t>(h.size(0)));
    std::vector<std::uint64_t> seeds;  // by what the chunk says, not by where it stands
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t seed = std::stoull(key_of(chunks[begin + i], temperature).substr(0, 16), nullptr, 16);
      for (std::int64_t t = 0; t < time; ++t) seeds.push_back(seed + static_cast<std::uint64_t>(t));
    }
    for (std::int64_t row = 0; row < h.size(0); row += step) {
      const at::Tensor logits = head_logits(head, h.narrow(0, row, std::min(step, h.size(0) - row)));
      encode_rows(logits.narrow(1, 0, columns), temperature, seeds.data() + row, positions.data() + row);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const auto first = positions.begin() + static_cast<std::ptrdiff_t>(i) * time;
      cache.add(chunks[begin + i], temperature, std::vector<Bytes>(first, first + time));
    }
    cache.flush_if_full();  // not within a batch: a capture that goes on makes the same batches, and so the same bytes
  }
}

}  // namespace attar
