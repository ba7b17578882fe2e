#include "eval/protocol.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

void check_ids(const Ids& ids, std::int64_t vocab_size, std::string_view subject) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab_size)
      fail("eval: ", subject, ": token ", i, " has id ", ids[i], " but the model's vocabulary has ", vocab_size,
           " entries; the tokenizer belongs to another model");
}

}  // namespace

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

TextPlan plan_chunks(const std::vector<Ids>& chunks, const Tokenizer& tokenizer) {
  TextPlan plan;
  for (const Ids& chunk : chunks) {
    const auto context = static_cast<std::int64_t>(chunk.size());
    const Sequence& s = plan.sequences.emplace_back(Sequence{chunk, first_scored(context), context - 1, plan.bytes.size()});
    double bytes = 0;
    for (std::int64_t p = s.begin; p < s.end; ++p)
      bytes += static_cast<double>(tokenizer.bytes_of(chunk[static_cast<std::size_t>(p) + 1]).size());
    plan.bytes.push_back(bytes);
    plan.words.push_back(0);
  }
  return plan;
}

namespace {

// As Python's len(re.split(r"\s+", text)): runs of white space, plus one.
double count_words(std::string_view text) {
  const auto is_space = [&](std::size_t i, std::size_t& length) {
    const auto byte = static_cast<unsigned char>(text[i]);
    length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    if (byte < 0x80) return byte == ' ' || (byte >= 9 && byte <= 13) || (byte >= 28 && byte <= 31);
    const std::string_view c = text.substr(i, length);
    if (c >= "\xe2\x80\x80" && c <= "\xe2\x80\x8a") return true;  // U+2000 to U+200A
    for (const std::string_view space : {"\xc2\x85", "\xc2\xa0", "\xe1\x9a\x80", "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
                                         "\xe2\x81\x9f", "\xe3\x80\x80"})
      if (c == space) return true;
    return false;
  };
  double words = 1;
  bool inside = false;
  std::size_t length = 1;
  for (std::size_t i = 0; i < text.size(); i += length) {
    const bool space = is_space(i, length);
    words += space && !inside;
    inside = space;
  }
  return words;
}

}  // namespace

TextPlan plan_rolling(const std::vector<std::string>& documents, const Tokenizer& tokenizer, const ChunkOptions& options,
                      std::int64_t vocab_size, std::string_view subject) {
  const std::int64_t context = options.context;
  if (context < 2) fail("eval: --context ", context, ": a window needs at least 2 tokens");
  if (options.tokens != 0) fail("eval: --tokens does not go with --protocol rolling, which reads whole documents; use --chunks");
  const TokenizerData& data = tokenizer.data();
  const std::int64_t first = data.bos_id >= 0 ? data.bos_id : data.eos_id;
  if (first < 0) fail("eval: --protocol rolling tells the first token after BOS or EOS, and the tokenizer has neither");
  TextPlan plan;
  for (const std::string& document : documents) {
    if (options.chunks > 0 && static_cast<std::int64_t>(plan.bytes.size()) == options.chunks) break;
    Ids ids = tokenizer.encode(document, false);
    if (ids.empty()) continue;
    check_ids(ids, vocab_size, subject);
    ids.insert(ids.begin(), first);
    const auto size = static_cast<std::int64_t>(ids.size());
    // ids[done] is the last token that has been told.
    for (std::int64_t done = 0; done + 1 < size;) {
      const std::int64_t next = std::min(done + context, size - 1);
      const std::int64_t begin = next == size - 1 ? std::max<std::int64_t>(0, next - context) : done;
      plan.sequences.push_back({Ids(ids.begin() + begin, ids.begin() + next + 1), done - begin, next - begin, plan.bytes.size()});
      done = next;
    }
    plan.bytes.push_back(static_cast<double>(document.size()));
    plan.words.push_back(count_words(document));
  }
  if (plan.sequences.empty()) fail("eval: ", subject, " has no token to score");
  return plan;
}

Ids tokenize_text(const Tokenizer& tokenizer, std::string_view text, std::int64_t vocab_size, std::string_view subject) {
  if (const auto offset = find_invalid_utf8(text))
    fail("eval: ", subject, ": byte ", *offset, " is not UTF-8; convert the text first, for example with iconv");
  if (text.ends_with('\n')) text.remove_suffix(1);
  Ids ids = tokenizer.encode(text, true);
  const TokenizerData& data = tokenizer.data();
  if (data.add_eos && !ids.empty() && ids.back() == data.eos_id) ids.pop_back();
  check_ids(ids, vocab_size, subject);
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
