#include "model/batch_text.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <set>

#include "base/console.h"
#include "base/error.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "model/decoder.h"

namespace attar {
namespace {

constexpr std::size_t kRun = 4;              // tokens
constexpr std::int64_t kTextsPerThread = 8;  // between two deliveries

}  // namespace

double repetition(std::span<const std::int64_t> ids) {
  if (ids.size() <= kRun) return 0.0;
  std::set<std::array<std::int64_t, kRun>> seen;
  const std::size_t runs = ids.size() - kRun + 1;
  for (std::size_t i = 0; i < runs; ++i) {
    std::array<std::int64_t, kRun> run;
    std::copy_n(ids.begin() + static_cast<std::ptrdiff_t>(i), kRun, run.begin());
    seen.insert(run);
  }
  return 1.0 - static_cast<double>(seen.size()) / static_cast<double>(runs);
}

std::string reason_to_drop(const Generated& text, const TextFilter& filter) {
  if (!filter.keep_unfinished && text.stopped_by == "length") return "unfinished";
  if (std::ssize(text.ids) < filter.min_tokens) return "short";
  if (repetition(text.ids) > filter.max_repetition) return "repetitive";
  if (find_invalid_utf8(text.text)) return "not_text";
  return "";
}

void generate_batch(Decoder& decoder, const Tokenizer& tokenizer, const std::vector<Ids>& prompts, std::int64_t first,
                    const BatchOptions& options, const std::function<void(std::int64_t, const Generated&)>& done) {
  if (options.samples < 1) fail("generate: ", options.samples, " samples of each prompt; expected at least 1");
  const OneTorchThread one_thread;
  const std::int64_t total = std::ssize(prompts) * options.samples, wave = kTextsPerThread * thread_count();
  for (std::int64_t begin = first; begin < total; begin += wave) {
    const std::int64_t count = std::min(wave, total - begin);
    std::vector<Generated> texts(static_cast<std::size_t>(count));
    std::atomic<std::int64_t> next{0};
    parallel_for(std::min<std::int64_t>(thread_count(), count), [&](std::int64_t) {
      at::set_num_threads(1);  // this setting belongs to the thread
      const auto own = share_weights(decoder);
      for (std::int64_t i = next++; i < count; i = next++) {
        GenerateOptions generate_options = options.generate;
        generate_options.seed = Random(options.generate.seed ^ Random(static_cast<std::uint64_t>(begin + i)).next()).next();
        const Ids& prompt = prompts[static_cast<std::size_t>((begin + i) / options.samples)];
        texts[static_cast<std::size_t>(i)] = generate(*own, tokenizer, prompt, generate_options);
      }
    });
    for (std::int64_t i = 0; i < count; ++i) done(begin + i, texts[static_cast<std::size_t>(i)]);
  }
}

}  // namespace attar
