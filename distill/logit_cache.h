// A teacher's predictions on disk, so that it runs once: students are then trained without it, as often as one likes.
//
// A folder of shards, each written whole. An entry holds the distributions after every token of one chunk (eval/sparse_row.h)
// and goes by a hash of the chunk's tokens and where its texts begin, the temperature and how much is kept: never by its place in the data, which other
// options move. Every shard names the teacher and the tokenizer by their hashes, and every entry carries a hash of its bytes,
// looked at when it is read. The layout stands in logit_cache.cc.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/files.h"
#include "distill/losses.h"
#include "distill/packing.h"
#include "eval/sparse_row.h"
#include "model/decoder.h"

namespace attar {

// What is kept of a distribution; docs/methods/distillation.md says what it costs.
inline constexpr SparseOptions kCached{.top = 24, .draws = 12, .tail = 1e-3};

inline constexpr std::size_t kShardSize = std::size_t{16} << 20;  // bytes, about: what is lost when a capture is killed

struct CacheIdentity {
  std::string teacher, tokenizer;  // hashes
  std::int64_t vocab = 0;          // tokens that distributions are over: the first columns of the teacher's logits
};

class LogitCache {
 public:
  // Opens the folder or makes it. Throws Error if its entries are another teacher's or a shard is damaged.
  LogitCache(fs::path folder, CacheIdentity identity);

  bool contains(const Chunk& chunk, double temperature) const;
  // positions: of each token of the chunk but the last, as write_sparse writes them. They reach the disk by flush(), and can be read
  // after that.
  void add(const Chunk& chunk, double temperature, const std::vector<Bytes>& positions);
  void flush();
  void flush_if_full();  // once there is enough for a shard

  // A row for each token of each chunk but its last. Throws Error for chunks that are not there and for damaged entries.
  TeacherRows rows(const std::vector<Chunk>& chunks, double temperature, const at::Device& device) const;

  std::uint64_t tokens() const { return tokens_; }  // in all shards
  std::uint64_t bytes() const { return bytes_; }
  const CacheIdentity& identity() const { return identity_; }

 private:
  struct Entry {
    const MappedFile* file = nullptr;
    ByteView payload;
    std::string hash;
  };
  void open_shard(const fs::path& path);

  fs::path folder_;
  CacheIdentity identity_;
  std::vector<std::unique_ptr<MappedFile>> shards_;
  std::map<std::string, Entry> entries_;  // by key
  ByteWriter pending_;
  std::set<std::string> waiting_;         // keys in pending_
  std::uint64_t tokens_ = 0, bytes_ = 0;
};

// Runs the teacher over chunks of one length, which the cache does not hold yet, and adds what it says. batch: chunks at a time.
void capture(LogitCache& cache, Decoder& teacher, const std::vector<Chunk>& chunks, double temperature, std::int64_t batch);

}  // namespace attar
