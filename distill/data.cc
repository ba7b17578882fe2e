#include "distill/data.h"

#include <algorithm>
#include <future>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "datasets/corpus.h"
#include "datasets/stories.h"

namespace attar {
namespace {

constexpr std::string_view kStoryStream = "builtin:train";

std::uint64_t mix(std::uint64_t seed, std::uint64_t index) { return Random(seed ^ Random(index).next()).next(); }

[[noreturn]] void fail_position(const nlohmann::json& position) {
  fail("[training data] ", position.dump(), " is not a place in this data; the training state belongs to another run");
}

// Chunks held in memory, every epoch in an order of its own.
class ShuffledChunks : public ChunkSource {
 public:
  ShuffledChunks(std::vector<Ids> chunks, std::uint64_t seed) : chunks_(std::move(chunks)), seed_(seed) {
    if (chunks_.empty()) fail("[training data] there is not one whole chunk");
    ContentHash hash;
    for (const Ids& chunk : chunks_)
      hash.add(ByteView(reinterpret_cast<const std::byte*>(chunk.data()), chunk.size() * sizeof(chunk[0])));
    identity = cat("chunks ", hash.hex(), " seed ", seed);
    start_epoch();
  }

  Ids next() override {
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

  std::vector<Ids> chunks_;
  std::vector<std::size_t> order_;
  std::uint64_t seed_, epoch_ = 0, index_ = 0;
};

// Stories without end in blocks, each made by streams of its own: blocks are written and tokenized on all threads, one
// ahead of need, and any of them can be made again for a resumed run. A block's last tokens that fill no chunk are dropped.
class StoryChunks : public ChunkSource {
 public:
  StoryChunks(const Tokenizer& tokenizer, const ChunkOptions& options) : tokenizer_(tokenizer), options_(options) {
    identity = cat(kStoryStream, " length ", options.length, " seed ", options.seed);
    load(0);
  }
  ~StoryChunks() override {
    if (ahead_.valid()) ahead_.wait();
  }

  Ids next() override {
    if (index_ == chunks_.size()) {
      chunks_ = ahead_.get();
      ++block_;
      index_ = 0;
      prefetch();
    }
    return chunks_[index_++];
  }
  nlohmann::json position() const override { return {{"block", block_}, {"index", index_}}; }
  void seek(const nlohmann::json& position) override {
    load(position.value("block", std::uint64_t{0}));
    index_ = position.value("index", chunks_.size() + 1);
    if (index_ > chunks_.size()) fail_position(position);
  }

 private:
  static constexpr std::int64_t kStreams = 32, kStoriesEach = 16;

  void load(std::uint64_t block) {
    if (ahead_.valid()) ahead_.wait();
    chunks_ = make(block);
    if (chunks_.empty())
      fail("[training data] a block of ", kStreams * kStoriesEach, " stories has fewer than ", options_.length,
           " tokens; train with a smaller --context");
    block_ = block;
    index_ = 0;
    prefetch();
  }
  void prefetch() {
    ahead_ = std::async(std::launch::async, [this, block = block_ + 1] { return make(block); });
  }
  std::vector<Ids> make(std::uint64_t block) const {
    const TokenizerData& data = tokenizer_.data();
    std::vector<Ids> parts(kStreams);
    parallel_for(kStreams, [&](std::int64_t s) {
      StoryStream stream(Split::kTrain, mix(options_.seed, block * kStreams + static_cast<std::uint64_t>(s)));
      Ids& ids = parts[static_cast<std::size_t>(s)];
      for (std::int64_t story = 0; story < kStoriesEach; ++story) {
        if (data.add_bos && data.bos_id >= 0) ids.push_back(data.bos_id);
        const Ids text = tokenizer_.encode(stream.next(), false);
        ids.insert(ids.end(), text.begin(), text.end());
        if (data.eos_id >= 0) ids.push_back(data.eos_id);
      }
    });
    Ids all;
    for (const Ids& part : parts) all.insert(all.end(), part.begin(), part.end());
    std::vector<Ids> chunks;
    for (auto begin = all.begin(); all.end() - begin >= options_.length; begin += options_.length)
      chunks.emplace_back(begin, begin + options_.length);
    return chunks;
  }

  const Tokenizer& tokenizer_;
  ChunkOptions options_;
  std::vector<Ids> chunks_;
  std::future<std::vector<Ids>> ahead_;
  std::uint64_t block_ = 0, index_ = 0;
};

}  // namespace

std::unique_ptr<ChunkSource> open_chunks(const std::string& source, const Tokenizer& tokenizer,
                                         const ChunkOptions& options) {
  if (source == kStoryStream) return std::make_unique<StoryChunks>(tokenizer, options);
  return shuffled_chunks(sample_chunks(read_token_documents(tokenizer, source), options.length, 0, options.seed), options.seed);
}

std::unique_ptr<ChunkSource> shuffled_chunks(std::vector<Ids> chunks, std::uint64_t seed) {
  return std::make_unique<ShuffledChunks>(std::move(chunks), seed);
}

}  // namespace attar
