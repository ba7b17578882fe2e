#include "datasets/corpus.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "base/threads.h"
#include "datasets/chat.h"
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

// Calls object(json, number) for each line.
template <class F>
void for_each_object(std::string_view text, const std::string& source, F object) {
  for_each_line(text, [&](std::string_view line, std::size_t number, std::size_t) {
    if (is_blank(line)) return;
    if (number % 4096 == 0) check_interrupt();
    auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) fail(source, ": line ", number, " is not a JSON object; expected {\"text\": \"...\"}");
    object(json, number);
  });
}

std::string take_text(nlohmann::json& object, const std::string& source, std::size_t number) {
  const auto field = object.find("text");
  if (field == object.end() || !field->is_string())
    fail(source, ": line ", number, " has no \"text\" that is a string; expected {\"text\": \"...\"}");
  return std::move(field->get_ref<std::string&>());
}

std::vector<std::string> jsonl_documents(std::string_view text, const std::string& source) {
  std::vector<std::string> documents;
  for_each_object(text, source, [&](nlohmann::json& object, std::size_t number) {
    if (std::string document = take_text(object, source, number); !document.empty()) documents.push_back(std::move(document));
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

// A document before it is tokenized, or as ids already.
struct Unread {
  std::string text;
  bool bos = false, eos = false;
  Ids ids;
};

Ids take_ids(const nlohmann::json& list, std::int64_t known, const std::string& source, std::size_t number) {
  Ids ids;
  for (const auto& value : list) {
    if (!value.is_number_integer() || value < 0 || value >= known)
      fail(source, ": line ", number, ": \"input_ids\" holds ", value.dump(), " at place ", ids.size() + 1,
           "; the tokenizer knows ids 0 to ", known - 1);
    ids.push_back(value);
  }
  return ids;
}

std::vector<Message> take_messages(const nlohmann::json& list, const std::string& source, std::size_t number) {
  std::vector<Message> messages;
  for (const auto& one : list) {
    if (!one.is_object() || !one.contains("role") || !one["role"].is_string() || !one.contains("content") || !one["content"].is_string())
      fail(source, ": line ", number, ": message ", messages.size() + 1, " is not {\"role\": \"...\", \"content\": \"...\"}");
    messages.push_back({one["role"], one["content"]});
  }
  return messages;
}

ChatForm checked_chat_form(const Tokenizer& tokenizer, const std::string& source) {
  ChatForm form = chat_form(tokenizer.data(), source);
  for (const std::string& marker : form.markers)
    if (tokenizer.encode(marker, false).size() != 1)
      fail(source, ": the model's chat template is of the family ", form.family, ", but ", marker,
           " is no token of its tokenizer; the two do not belong together");
  return form;
}

std::vector<Unread> jsonl_unread(const Tokenizer& tokenizer, const std::string& source) {
  const MappedFile file(source);
  const std::string_view text = as_text(file.bytes());
  check_utf8(text, source);
  std::optional<ChatForm> form;
  std::vector<Unread> documents;
  for_each_object(text, source, [&](nlohmann::json& object, std::size_t number) {
    if (object.contains("input_ids") && object["input_ids"].is_array()) {
      documents.push_back({"", false, false, take_ids(object["input_ids"], tokenizer.vocab_size(), source, number)});
    } else if (object.contains("messages") && object["messages"].is_array()) {
      if (!form) form = checked_chat_form(tokenizer, source);
      const std::vector<Message> messages = take_messages(object["messages"], source, number);
      try {
        documents.push_back({render_chat(*form, messages), form->bos, false, {}});
      } catch (const Error& error) {
        fail(source, ": line ", number, ": ", error.what());
      }
    } else if (object.contains("text")) {
      const TokenizerData& data = tokenizer.data();
      if (std::string document = take_text(object, source, number); !document.empty())
        documents.push_back({std::move(document), data.add_bos, data.eos_id >= 0, {}});
    } else {
      fail(source, ": line ", number, " has neither \"text\" nor a list of \"messages\" or of \"input_ids\"");
    }
  });
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

std::vector<Ids> read_token_documents(const Tokenizer& tokenizer, const std::string& source) {
  const TokenizerData& data = tokenizer.data();
  std::vector<Unread> documents;
  if (is_jsonl(source)) {
    documents = jsonl_unread(tokenizer, source);
  } else {
    for (std::string& text : read_documents(source)) documents.push_back({std::move(text), data.add_bos, data.eos_id >= 0, {}});
  }
  std::vector<Ids> result(documents.size());
  parallel_for(static_cast<std::int64_t>(documents.size()), [&](std::int64_t i) {
    check_interrupt();
    Unread& document = documents[static_cast<std::size_t>(i)];
    Ids& ids = result[static_cast<std::size_t>(i)];
    if (document.bos) ids.push_back(data.bos_id);
    const Ids body = document.text.empty() ? std::move(document.ids) : tokenizer.encode(document.text, false);
    ids.insert(ids.end(), body.begin(), body.end());
    if (document.eos) ids.push_back(data.eos_id);
  });
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
