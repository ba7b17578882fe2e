#include "distill/data.h"

#include <algorithm>
#include <future>
#include <iterator>
#include <numeric>
#include <span>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "datasets/documents.h"
#include "datasets/stories.h"

namespace attar {
namespace {

constexpr std::string_view kStoryStream = "builtin:train";

std::uint64_t mix(std::uint64_t seed, std::uint64_t index) { return Random(seed ^ Random(index).next()).next(); }

std::int64_t padding_of(const Tokenizer& tokenizer) {
  const TokenizerData& data = tokenizer.data();
  return std::max<std::int64_t>(0, data.eos_id >= 0 ? data.eos_id : data.bos_id);
}

std::vector<Chunk> chunks_of(const std::vector<Document>& documents, const ChunkOptions& options, std::int64_t padding, SkipCounts& skips) {
  return options.packing == PackMode::kJoined ? join_documents(documents, options.length, skips)
                                              : pack_documents(documents, options.length, padding, skips);
}

[[noreturn]] void fail_position(const nlohmann::json& position) {
  fail("[training data] ", position.dump(), " is not a place in this data; the training state belongs to another run");
}

// Chunks held in memory, every epoch in an order of its own.
class ShuffledChunks : public ChunkSource {
 public:
  ShuffledChunks(std::vector<Chunk> chunks, std::uint64_t seed) : chunks_(std::move(chunks)), seed_(seed) {
    if (chunks_.empty()) fail("[training data] there is not one whole chunk");
    ContentHash hash;
    for (const Chunk& chunk : chunks_) {
      hash.add(ByteView(std::as_bytes(std::span(chunk.ids))));
      hash.add(ByteView(std::as_bytes(std::span(chunk.learn))));
      hash.add(ByteView(std::as_bytes(std::span(chunk.starts))));
    }
    identity = cat("chunks ", hash.hex(), " seed ", seed);
    start_epoch();
  }

  Chunk next() override {
    if (index_ == chunks_.size()) {
      ++epoch_;
      index_ = 0;
      start_epoch();
    }
    return chunks_[order_[index_++]];
  }
  nlohmann::json position() const override { return {{"epoch", epoch_}, {"index", index_}}; }
  void seek(const nlohmann::json& position) override {
    const auto epoch = position.value("epoch", std::uint64_t{0}), index = position.value("index", chunks_.size() + 1);
    if (index > chunks_.size()) fail_position(position);
    epoch_ = epoch;
    index_ = index;
    start_epoch();
  }

 private:
  void start_epoch() {
    order_.resize(chunks_.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    Random(mix(seed_, epoch_)).shuffle(order_);
  }

  std::vector<Chunk> chunks_;
  std::vector<std::size_t> order_;
  std::uint64_t seed_, epoch_ = 0, index_ = 0;
};

// Documents in blocks without end, any of which can be made again for a resumed run.
class BlockMaker {
 public:
  virtual ~BlockMaker() = default;
  virtual std::vector<Document> make(std::uint64_t block) = 0;  // called from one thread at a time
  // How many of this block's documents were in none before.
  virtual std::size_t fresh(std::uint64_t block, std::size_t made) const = 0;
};

// Stories without end, each block made by streams of its own.
class StoryBlocks : public BlockMaker {
 public:
  StoryBlocks(const Tokenizer& tokenizer, std::uint64_t seed) : tokenizer_(tokenizer), seed_(seed) {}

  std::vector<Document> make(std::uint64_t block) override {
    const TokenizerData& data = tokenizer_.data();
    std::vector<Document> documents(kStreams * kStoriesEach);
    parallel_for(kStreams, [&](std::int64_t s) {
      StoryStream stream(Split::kTrain, mix(seed_, block * kStreams + static_cast<std::uint64_t>(s)));
      for (std::int64_t story = 0; story < kStoriesEach; ++story) {
        Ids& ids = documents[static_cast<std::size_t>(s * kStoriesEach + story)].ids;
        if (data.add_bos && data.bos_id >= 0) ids.push_back(data.bos_id);
        const Ids text = tokenizer_.encode(stream.next(), false);
        ids.insert(ids.end(), text.begin(), text.end());
        if (data.eos_id >= 0) ids.push_back(data.eos_id);
      }
    });
    return documents;
  }
  std::size_t fresh(std::uint64_t, std::size_t made) const override { return made; }

 private:
  static constexpr std::int64_t kStreams = 32, kStoriesEach = 16;
  const Tokenizer& tokenizer_;
  std::uint64_t seed_;
};

// A corpus over and over, every epoch in an order of its own. A block is a run of documents of this sequence, about as many as
// fill kChunksPerBlock chunks, and may reach into later epochs.
class CorpusBlocks : public BlockMaker {
 public:
  CorpusBlocks(Documents documents, std::int64_t length, std::uint64_t seed) : documents_(std::move(documents)), seed_(seed) {
    constexpr std::uint64_t kChunksPerBlock = 64, kBytesPerToken = 4;
    const std::uint64_t wanted = kChunksPerBlock * kBytesPerToken * static_cast<std::uint64_t>(length);
    size_ = std::max<std::uint64_t>(1, wanted * documents_.size() / std::max<std::uint64_t>(1, documents_.bytes()));
  }

  std::vector<Document> make(std::uint64_t block) override {
    std::vector<std::size_t> which;
    for (std::uint64_t i = block * size_; i < (block + 1) * size_; ++i) {
      start_epoch(i / documents_.size());
      which.push_back(order_[i % documents_.size()]);
    }
    std::vector<Document> result(which.size());
    parallel_for(std::ssize(which), [&](std::int64_t i) {
      result[static_cast<std::size_t>(i)] = documents_.at(which[static_cast<std::size_t>(i)]);
    });
    return result;
  }
  std::size_t fresh(std::uint64_t block, std::size_t made) const override {
    const std::uint64_t before = block * size_;
    return before >= documents_.size() ? 0 : std::min<std::size_t>(made, documents_.size() - before);
  }

 private:
  void start_epoch(std::uint64_t epoch) {
    if (!order_.empty() && epoch == epoch_) return;
    order_.resize(documents_.size());
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    Random(mix(seed_, epoch)).shuffle(order_);
    epoch_ = epoch;
  }

  Documents documents_;
  std::uint64_t seed_, size_ = 0, epoch_ = 0;
  std::vector<std::size_t> order_;
};

// Blocks as chunks; a block is made on other threads, one ahead of need.
class BlockChunks : public ChunkSource {
 public:
  BlockChunks(std::string name, std::unique_ptr<BlockMaker> maker, const Tokenizer& tokenizer, const ChunkOptions& options)
      : name_(std::move(name)), maker_(std::move(maker)), options_(options) {
    padding_ = padding_of(tokenizer);
    load(0);
    index_ = 0;
    skips = now_.skips;
    if (now_.chunks.empty()) advance();
  }
  ~BlockChunks() override {
    if (ahead_.valid()) ahead_.wait();
  }

  Chunk next() override {
    if (index_ == now_.chunks.size()) advance();
    return now_.chunks[index_++];
  }
  nlohmann::json position() const override { return {{"block", block_}, {"index", index_}, {"skips", skips}}; }
  void seek(const nlohmann::json& position) override {
    load(position.value("block", std::uint64_t{0}));
    index_ = position.value("index", now_.chunks.size() + 1);
    if (index_ > now_.chunks.size()) fail_position(position);
    skips = position.value("skips", SkipCounts{});
  }

 private:
  struct Block {
    std::vector<Chunk> chunks;
    SkipCounts skips;          // of documents that no block before held
    bool all_met = false;      // none of its documents was new
  };

  void load(std::uint64_t block) {
    if (ahead_.valid()) ahead_.wait();
    now_ = make(block);
    block_ = block;
    prefetch();
  }
  void prefetch() {
    ahead_ = std::async(std::launch::async, [this, block = block_ + 1] { return make(block); });
  }
  void advance() {
    do {
      if (now_.chunks.empty() && now_.all_met) fail_nothing();
      now_ = ahead_.get();
      skips += now_.skips;
      ++block_;
      index_ = 0;
      prefetch();
    } while (now_.chunks.empty());
  }
  [[noreturn]] void fail_nothing() const {
    fail("[training data] ", name_, " has nothing to learn in chunks of ", options_.length, " tokens: ", skips.empty,
         " empty documents, ", skips.one_token, " of one token, ", skips.masked,
         " with nothing the assistant says; give more text or train with a smaller --context");
  }
  Block make(std::uint64_t block) {
    std::vector<Document> documents = maker_->make(block);
    Block result;
    const std::size_t fresh = maker_->fresh(block, documents.size());
    result.all_met = fresh == 0;
    SkipCounts again;  // already counted
    result.chunks = chunks_of(documents, options_, padding_, again);
    documents.resize(fresh);
    if (again.skipped() + again.cut > 0) chunks_of(documents, options_, padding_, result.skips);
    if (options_.packing == PackMode::kDocuments)  // not the longest first
      Random(mix(~options_.seed, block)).shuffle(result.chunks);
    return result;
  }

  std::string name_;
  std::unique_ptr<BlockMaker> maker_;
  ChunkOptions options_;
  std::int64_t padding_ = 0;
  Block now_;
  std::future<Block> ahead_;
  std::uint64_t block_ = 0, index_ = 0;
};

// Less text than a chunk would be joined with copies of itself.
void check_fills_a_chunk(const Documents& documents, const std::string& name, std::int64_t length) {
  constexpr std::uint64_t kMostBytesPerToken = 64;
  if (documents.bytes() > kMostBytesPerToken * static_cast<std::uint64_t>(length)) return;
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < documents.size(); ++i) tokens += std::ssize(documents.at(i).ids);
  if (tokens > 1 && tokens < length)
    fail("[training data] ", name, " has ", tokens, " tokens, a chunk ", length,
         "; give more text, train with a smaller --context or with --packing documents");
}

}  // namespace

PackMode pack_mode_from_name(const std::string& name) {
  if (name == "joined") return PackMode::kJoined;
  if (name == "documents") return PackMode::kDocuments;
  fail("[training data] no way to pack documents is called '", name, "'; one of joined, documents");
}

std::unique_ptr<ChunkSource> open_chunks(const std::string& source, const Tokenizer& tokenizer,
                                         const ChunkOptions& options) {
  std::unique_ptr<BlockMaker> maker;
  std::string content = source;
  if (source == kStoryStream) {
    maker = std::make_unique<StoryBlocks>(tokenizer, options.seed);
  } else {
    Documents documents(tokenizer, source);
    content = documents.hash();
    if (options.packing == PackMode::kJoined) check_fills_a_chunk(documents, source, options.length);
    maker = std::make_unique<CorpusBlocks>(std::move(documents), options.length, options.seed);
  }
  auto chunks = std::make_unique<BlockChunks>(source, std::move(maker), tokenizer, options);
  chunks->identity = cat(content, " length ", options.length, " seed ", options.seed,
                         options.packing == PackMode::kDocuments ? " packed documents" : "");
  return chunks;
}

std::unique_ptr<ChunkSource> shuffled_chunks(std::vector<Chunk> chunks, std::uint64_t seed) {
  return std::make_unique<ShuffledChunks>(std::move(chunks), seed);
}

std::vector<Chunk> held_out_chunks(const std::string& source, const Tokenizer& tokenizer, std::int64_t count,
                                   const ChunkOptions& options) {
  CorpusBlocks blocks(Documents(tokenizer, source), options.length, options.seed);
  const std::int64_t padding = padding_of(tokenizer);
  std::vector<Chunk> chunks;
  for (std::uint64_t block = 0; count == 0 || std::ssize(chunks) < count; ++block) {
    std::vector<Document> documents = blocks.make(block);
    documents.resize(blocks.fresh(block, documents.size()));
    if (documents.empty()) break;  // all of the text was there
    SkipCounts skips;
    std::vector<Chunk> part = chunks_of(documents, options, padding, skips);
    Random(mix(~options.seed, block)).shuffle(part);
    std::move(part.begin(), part.end(), std::back_inserter(chunks));
  }
  const std::size_t wanted = count == 0 ? std::max<std::size_t>(1, chunks.size()) : static_cast<std::size_t>(count);
  if (chunks.size() < wanted)
    fail("[held-out data] ", source, " gives ", chunks.size(), " chunks of ", options.length, " tokens, ", wanted,
         " are needed; use more text, a smaller --context or a smaller --eval-chunks");
  chunks.resize(wanted);
  return chunks;
}

}  // namespace attar
