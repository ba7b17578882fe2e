#include "datasets/corpus.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "datasets/documents.h"
#include "datasets/lines.h"
#include "datasets/stories.h"

namespace attar {
namespace {

constexpr std::string_view kBuiltin = "builtin:";

std::vector<std::string> text_documents(std::string_view text) {
  std::vector<std::string> documents;
  for_each_paragraph(text, [&](std::size_t offset, std::size_t size) { documents.emplace_back(text.substr(offset, size)); });
  return documents;
}

std::vector<std::string> jsonl_documents(std::string_view text, const std::string& source) {
  std::vector<std::string> documents;
  for_each_line(text, [&](std::string_view line, std::size_t number, std::size_t) {
    if (is_blank(line)) return;
    if (number % 4096 == 0) check_interrupt();
    nlohmann::json object = parse_object(line, source, number);
    if (std::string document = take_text(object, source, number); !document.empty()) documents.push_back(std::move(document));
  });
  return documents;
}

std::vector<std::string> file_documents(const std::string& source) {
  const MappedFile file(source);
  const std::string_view text = as_text(file.bytes());
  check_utf8(text, source);
  auto documents = is_jsonl(source) ? jsonl_documents(text, source) : text_documents(text);
  if (documents.empty()) fail(source, ": holds no text");
  return documents;
}

std::string joined(const std::vector<std::string>& documents) {
  std::string text;
  for (const auto& document : documents) {
    if (!text.empty()) text += '\n';
    text += document;
  }
  return text;
}

}  // namespace

bool is_builtin_source(const std::string& source) { return source.starts_with(kBuiltin); }

std::vector<std::string> read_documents(const std::string& source) {
  if (is_builtin_source(source)) return story_documents(parse_split(source.substr(kBuiltin.size())));
  return file_documents(source);
}

std::string read_source(const std::string& source) {
  if (is_builtin_source(source) || is_jsonl(source)) return joined(read_documents(source));
  const MappedFile file(source);
  const std::string_view text = as_text(file.bytes());
  check_utf8(text, source);
  return std::string(text);
}

std::vector<Ids> chunk_text(const Tokenizer& tokenizer, std::string_view text, std::int64_t length, bool first_bos) {
  if (length < 2) fail("corpus: chunks of ", length, " tokens; at least 2 are needed");
  const bool bos = first_bos && tokenizer.data().add_bos;
  Ids ids;
  if (bos) ids.push_back(tokenizer.data().bos_id);
  const Ids body = tokenizer.encode(text, false);
  ids.insert(ids.end(), body.begin(), body.end());
  std::vector<Ids> chunks;
  for (auto rest = ids.begin(); ids.end() - rest >= length; rest += length) {
    chunks.emplace_back(rest, rest + length);
    if (bos) chunks.back().front() = tokenizer.data().bos_id;
  }
  if (chunks.empty())
    fail("corpus: the text has ", ids.size(), " tokens, a chunk needs ", length, "; use more text or shorter chunks");
  return chunks;
}

std::vector<Ids> read_token_documents(const Tokenizer& tokenizer, const std::string& source) {
  const Documents documents(tokenizer, source);
  std::vector<Ids> result(documents.size());
  parallel_for(static_cast<std::int64_t>(documents.size()), [&](std::int64_t i) {
    check_interrupt();
    result[static_cast<std::size_t>(i)] = documents.at(static_cast<std::size_t>(i)).ids;
  });
  std::erase_if(result, [](const Ids& ids) { return ids.empty(); });
  if (result.empty()) fail(source, ": holds no text");
  return result;
}

std::vector<Ids> sample_chunks(const std::vector<Ids>& documents, std::int64_t length, std::int64_t count, std::uint64_t seed) {
  if (length < 2) fail("corpus: chunks of ", length, " tokens; at least 2 are needed");
  if (count < 0) fail("corpus: ", count, " chunks were asked for");
  std::vector<Ids> chunks;
  Ids chunk;
  for (const Ids& document : documents) {
    for (const std::int64_t id : document) {
      chunk.push_back(id);
      if (static_cast<std::int64_t>(chunk.size()) == length) chunks.push_back(std::exchange(chunk, {}));
    }
  }
  const auto wanted = static_cast<std::size_t>(count == 0 ? std::max<std::size_t>(1, chunks.size()) : count);
  if (chunks.size() < wanted)
    fail("corpus: ", documents.size(), " documents give ", chunks.size(), " chunks of ", length, " tokens, ", wanted,
         " are needed; use more text, shorter chunks or fewer of them");
  Random(seed).shuffle(chunks);
  chunks.resize(wanted);
  return chunks;
}

std::string chunks_hash(const std::vector<Ids>& chunks) {
  ContentHash hash;
  for (const Ids& chunk : chunks) hash.add(ByteView(std::as_bytes(std::span(chunk))));
  return hash.hex();
}

}  // namespace attar
