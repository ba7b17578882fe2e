#include "datasets/corpus.h"

#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "datasets/stories.h"

namespace attar {
namespace {

constexpr std::string_view kBuiltin = "builtin:";

// Calls line(text, number, offset) for each line without its end; numbers start at 1.
template <class F>
void for_each_line(std::string_view text, F line) {
  std::size_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    line(text.substr(begin, end - begin), ++number, begin);
    begin = end + 1;
  }
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r\f\v") == std::string_view::npos; }

std::vector<std::string> text_documents(std::string_view text) {
  std::vector<std::string> documents;
  std::size_t begin = 0, end = 0;  // of the document being gathered
  const auto close = [&] {
    if (end > begin) documents.emplace_back(text.substr(begin, end - begin));
  };
  for_each_line(text, [&](std::string_view line, std::size_t, std::size_t offset) {
    if (is_blank(line)) {
      close();
      begin = end = offset + line.size() + 1;
    } else {
      end = offset + line.size();
    }
  });
  close();
  return documents;
}

std::vector<std::string> jsonl_documents(std::string_view text, const std::string& source) {
  std::vector<std::string> documents;
  for_each_line(text, [&](std::string_view line, std::size_t number, std::size_t) {
    if (is_blank(line)) return;
    if (number % 4096 == 0) check_interrupt();
    auto object = nlohmann::json::parse(line, nullptr, false);
    if (!object.is_object()) fail(source, ": line ", number, " is not a JSON object; expected {\"text\": \"...\"}");
    const auto field = object.find("text");
    if (field == object.end() || !field->is_string())
      fail(source, ": line ", number, " has no \"text\" that is a string; expected {\"text\": \"...\"}");
    if (auto& document = field->get_ref<std::string&>(); !document.empty()) documents.push_back(std::move(document));
  });
  return documents;
}

bool is_jsonl(const std::string& source) { return fs::path(source).extension() == ".jsonl"; }

void check_utf8(std::string_view text, const std::string& source) {
  if (const auto offset = find_invalid_utf8(text))
    fail(source, ": not UTF-8: byte ", *offset, " of ", text.size(), " is 0x", std::hex,
         unsigned{static_cast<unsigned char>(text[*offset])}, "; convert it, for instance with iconv -t UTF-8");
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

std::vector<std::string> read_documents(const std::string& source) {
  if (source.starts_with(kBuiltin)) return story_documents(parse_split(source.substr(kBuiltin.size())));
  return file_documents(source);
}

std::string read_source(const std::string& source) {
  if (source.starts_with(kBuiltin) || is_jsonl(source)) return joined(read_documents(source));
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

std::vector<Ids> sample_chunks(const Tokenizer& tokenizer, const std::vector<std::string>& documents,
                               std::int64_t length, std::int64_t count, std::uint64_t seed) {
  if (length < 2) fail("corpus: chunks of ", length, " tokens; at least 2 are needed");
  if (count < 0) fail("corpus: ", count, " chunks were asked for");
  const TokenizerData& data = tokenizer.data();
  std::vector<Ids> parts(documents.size());
  parallel_for(static_cast<std::int64_t>(documents.size()), [&](std::int64_t i) {
    check_interrupt();
    Ids& part = parts[static_cast<std::size_t>(i)];
    if (data.add_bos) part.push_back(data.bos_id);
    const Ids body = tokenizer.encode(documents[static_cast<std::size_t>(i)], false);
    part.insert(part.end(), body.begin(), body.end());
    if (data.eos_id >= 0) part.push_back(data.eos_id);
  });
  std::vector<Ids> chunks;
  Ids chunk;
  for (Ids& part : parts) {
    for (const std::int64_t id : part) {
      chunk.push_back(id);
      if (static_cast<std::int64_t>(chunk.size()) == length) chunks.push_back(std::exchange(chunk, {}));
    }
    part = {};
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
