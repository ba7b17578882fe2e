#include "model/self_text.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "model/decoder.h"
#include "model/generate.h"
#include "model/tensor.h"

namespace attar {
namespace {

// Chunks written side by side; fixed, as sums may depend on it.
constexpr std::int64_t kRows = 8;

// Fills `chunks`, all of one length, with kRows rows of which the last may be for nobody.
void write_rows(Decoder& decoder, std::int64_t bos, const std::vector<std::int64_t>& ends, std::span<Ids> chunks, std::int64_t length,
                std::span<Random> randoms) {
  KvCache cache;
  at::Tensor last = at::full({kRows, 1}, bos, at::kLong);
  for (Ids& chunk : chunks) chunk.assign(1, bos);
  for (std::int64_t t = 1; t < length; ++t) {
    check_interrupt();
    const at::Tensor logits = decoder.forward(last, &cache).select(1, 0);
    for (std::size_t row = 0; row < chunks.size(); ++row) {
      Ids& chunk = chunks[row];
      const bool ended = chunk.back() != bos && std::find(ends.begin(), ends.end(), chunk.back()) != ends.end();
      chunk.push_back(ended ? bos : sample(floats_of(logits[static_cast<std::int64_t>(row)]), {1.0}, randoms[row]));
      last[static_cast<std::int64_t>(row)][0] = chunk.back();
    }
  }
}

}  // namespace

std::vector<Ids> write_self_text(const Checkpoint& model, std::int64_t count, std::int64_t length, std::uint64_t seed) {
  const TokenizerData& tokenizer = model.tokenizer;
  const std::int64_t bos = tokenizer.bos_id >= 0 ? tokenizer.bos_id : tokenizer.eos_id;
  if (bos < 0) fail("calibration: the tokenizer has neither BOS nor EOS, so the model cannot begin a text; give text");
  std::vector<std::int64_t> ends = model.config.eos_ids;
  if (tokenizer.eos_id >= 0) ends.push_back(tokenizer.eos_id);
  const at::NoGradGuard no_grad;
  const OneTorchThread one_thread;
  const auto decoder = load_decoder(model);
  std::vector<Ids> chunks(static_cast<std::size_t>(count));
  Random seeds(seed);
  std::vector<Random> randoms;
  for (std::int64_t i = 0; i < count; ++i) randoms.emplace_back(seeds.next());
  Progress progress("writing", static_cast<std::uint64_t>(count), "chunks");
  std::mutex showing;
  std::atomic<std::int64_t> next{0};
  const std::int64_t batches = (count + kRows - 1) / kRows;
  parallel_for(std::min<std::int64_t>(thread_count(), batches), [&](std::int64_t) {
    at::set_num_threads(1);  // this setting belongs to the thread
    const at::NoGradGuard none;
    const auto own = share_weights(*decoder);
    for (std::int64_t batch = next++; batch < batches; batch = next++) {
      const auto begin = static_cast<std::size_t>(batch * kRows), size = std::min<std::size_t>(kRows, chunks.size() - begin);
      write_rows(*own, bos, ends, std::span(chunks).subspan(begin, size), length, std::span(randoms).subspan(begin, size));
      const std::lock_guard lock(showing);
      progress.advance(size);
    }
  });
  return chunks;
}

}  // namespace attar
