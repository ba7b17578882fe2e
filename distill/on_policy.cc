#include "distill/on_policy.h"

#include <algorithm>
#include <utility>

#include "base/random.h"
#include "model/generate.h"
#include "model/tensor.h"

namespace attar {
namespace {

Random random_of(const OnPolicy& options, std::int64_t step, std::int64_t index) {
  const std::uint64_t place = Random(static_cast<std::uint64_t>(step)).next() ^ static_cast<std::uint64_t>(index);
  return Random(options.seed ^ Random(place).next());
}

// Tokens of the chunk that the student is given; one at least is left for it to say.
std::int64_t prompt_of(const Chunk& chunk) {
  const std::int64_t length = std::ssize(chunk.ids);
  std::int64_t first = 1;
  if (!chunk.learn.empty()) first = std::find(chunk.learn.begin() + 1, chunk.learn.end(), 1) - chunk.learn.begin();
  if (first > 1) return std::min(first, length - 1);
  const std::int64_t text = chunk.starts.size() > 1 ? chunk.starts[1] : length;
  return std::max<std::int64_t>(1, std::min(length / 4, text));
}

}  // namespace

bool is_on_policy(const OnPolicy& options, std::int64_t step, std::int64_t index) {
  return options.lambda > 0 && random_of(options, step, index).uniform() < options.lambda;
}

void write_own_texts(Decoder& student, const OnPolicy& options, std::int64_t step, const std::vector<std::int64_t>& indices,
                     const std::vector<Chunk*>& chunks) {
  if (chunks.empty()) return;
  const at::NoGradGuard no_grad;
  // Token by token, casting all weights each time would take longer than what it saves.
  struct InFloat {
    Decoder& decoder;
    at::ScalarType before = std::exchange(decoder.compute, at::kFloat);
    ~InFloat() { decoder.compute = before; }
  } const in_float{student};
  const std::int64_t length = std::ssize(chunks.front()->ids), rows = std::ssize(chunks);
  std::vector<Random> randoms;
  std::vector<std::int64_t> prompts;
  std::vector<bool> ended(chunks.size(), false);
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    randoms.push_back(random_of(options, step, indices[i]));
    randoms.back().next();  // the one that is_on_policy took
    prompts.push_back(prompt_of(*chunks[i]));
    chunks[i]->starts.clear();
    chunks[i]->learn.assign(chunks[i]->ids.size(), 0);
  }
  KvCache cache;
  // All rows stand at the same place, so that none needs padding: a row whose prompt goes on is fed from it.
  for (std::int64_t done = 0, next = *std::min_element(prompts.begin(), prompts.end()); next < length; done = next++) {
    at::Tensor ids = at::empty({rows, next - done}, at::kLong);
    auto* id = ids.data_ptr<std::int64_t>();
    for (const Chunk* chunk : chunks) id = std::copy(chunk->ids.begin() + done, chunk->ids.begin() + next, id);
    const at::Tensor hidden = student.hidden_states(ids.to(student.device()), &cache);
    const at::Tensor logits = student.logits(hidden.select(1, next - done - 1)).cpu();
    for (std::size_t i = 0; i < chunks.size(); ++i) {
      if (next < prompts[i]) continue;
      const auto place = static_cast<std::size_t>(next);
      std::int64_t& token = chunks[i]->ids[place];
      if (ended[i]) {
        token = chunks[i]->ids[place - 1];
        continue;
      }
      token = sample(floats_of(logits[static_cast<std::int64_t>(i)]), {1.0}, randoms[i]);
      chunks[i]->learn[place] = 1;
      ended[i] = std::find(options.end_ids.begin(), options.end_ids.end(), token) != options.end_ids.end();
    }
  }
}

}  // namespace attar
