#include "eval/protocol.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace attar {

std::vector<Ids> cut_chunks(const Ids& ids, const ChunkOptions& options, std::int64_t bos, std::string_view subject) {
  const std::int64_t context = options.context;
  if (context < 4) fail("eval: --context ", context, ": at least 4 tokens are needed to score one");
  if (options.chunks < 0 || options.tokens < 0) fail("eval: --chunks and --tokens cannot be negative");
  auto available = static_cast<std::int64_t>(ids.size());
  if (available / 2 < context)
    fail("eval: ", subject, " has only ", available, " tokens; a context of ", context, " needs at least ", 2 * context,
         "; give more text or a smaller --context");
  if (options.tokens > 0) available = std::min(available, options.tokens);
  if (available < context)
    fail("eval: --tokens ", options.tokens, " does not fill one chunk of ", context, "; raise it or lower --context");
  std::int64_t count = available / context;
  if (options.chunks > 0) count = std::min(count, options.chunks);

  std::vector<Ids> chunks;
  for (std::int64_t c = 0; c < count; ++c) {
    const auto begin = ids.begin() + c * context;
    chunks.emplace_back(begin, begin + context);
    if (bos >= 0) chunks.back().front() = bos;
  }
  return chunks;
}

Ids tokenize_text(const Tokenizer& tokenizer, std::string_view text, std::int64_t vocab_size, std::string_view subject) {
  if (const auto offset = find_invalid_utf8(text))
    fail("eval: ", subject, ": byte ", *offset, " is not UTF-8; convert the text first, for example with iconv");
  if (text.ends_with('\n')) text.remove_suffix(1);
  Ids ids = tokenizer.encode(text, true);
  const TokenizerData& data = tokenizer.data();
  if (data.add_eos && !ids.empty() && ids.back() == data.eos_id) ids.pop_back();
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab_size)
      fail("eval: ", subject, ": token ", i, " has id ", ids[i], " but the model's vocabulary has ", vocab_size,
           " entries; the tokenizer belongs to another model");
  return ids;
}

std::int64_t chunk_bos(const TokenizerData& tokenizer) { return tokenizer.add_bos ? tokenizer.bos_id : -1; }

void require_same_tokens(const TokenizerData& model, const TokenizerData& reference) {
  const std::size_t common = std::min(model.size(), reference.size());
  for (std::size_t id = 0; id < common; ++id)
    if (model.tokens[id] != reference.tokens[id])
      fail("eval: model and reference have different tokenizers: id ", id, " is '", model.tokens[id], "' in the model and '",
           reference.tokens[id], "' in the reference; divergence needs one vocabulary");
  const std::int64_t bos = chunk_bos(model), reference_bos = chunk_bos(reference);
  const auto say = [](std::int64_t id) { return id < 0 ? std::string("no BOS") : cat("BOS ", id); };
  if (bos != reference_bos)
    fail("eval: model and reference begin a text differently: ", say(bos), " in the model, ", say(reference_bos),
         " in the reference");
}

void require_same_ids(const Ids& model, const Ids& reference, const Tokenizer& tokenizer) {
  const auto [a, b] = std::mismatch(model.begin(), model.end(), reference.begin(), reference.end());
  if (a == model.end() && b == reference.end()) return;
  const auto say = [&](const Ids& ids, Ids::const_iterator at) {
    if (at == ids.end()) return std::string("the end");
    return cat(*at, " ('", tokenizer.decode({&*at, 1}, true), "')");
  };
  fail("eval: model and reference split the text differently: token ", a - model.begin(), " is ", say(model, a),
       " in the model and ", say(reference, b), " in the reference; divergence needs the same tokens");
}

}  // namespace attar
