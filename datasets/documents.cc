#include "datasets/documents.h"

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "datasets/corpus.h"
#include "datasets/lines.h"

namespace attar {
namespace {

constexpr std::int64_t kLinesPerCheck = 256;

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

// Where to cut a text: behind its last end of line, before its last space, or before its last character.
std::size_t piece_length(std::string_view text) {
  const std::size_t most = text.size() - 1;
  if (const std::size_t line = text.rfind('\n', most - 1); line != std::string_view::npos && line > 0) return line + 1;
  if (const std::size_t space = text.rfind(' ', most); space != std::string_view::npos && space > 0) return space;
  std::size_t length = most;
  while ((static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) --length;
  return length;
}

bool has_list(const nlohmann::json& object, const char* key) { return object.contains(key) && object[key].is_array(); }

}  // namespace

ChatForm checked_chat_form(const Tokenizer& tokenizer, const std::string& source) {
  ChatForm form = chat_form(tokenizer.data(), source);
  for (const std::string& marker : form.markers)
    if (tokenizer.encode(marker, false).size() != 1)
      fail(source, ": the model's chat template is of the family ", form.family, ", but ", marker,
           " is no token of its tokenizer; the two do not belong together");
  return form;
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

Documents::Documents(const Tokenizer& tokenizer, std::string source) : tokenizer_(tokenizer), source_(std::move(source)) {
  ContentHash hash;
  if (is_builtin_source(source_)) {
    texts_ = read_documents(source_);
    for (const std::string& text : texts_) hash.add(as_bytes(text)), bytes_ += text.size();
  } else {
    file_ = std::make_unique<MappedFile>(source_);
    const std::string_view text = as_text(file_->bytes());
    check_utf8(text, source_);
    jsonl_ = is_jsonl(source_);
    if (jsonl_)
      find_lines(text);
    else
      for_each_paragraph(text, [&](std::size_t offset, std::size_t size) { add_pieces(text, offset, size); });
    if (places_.empty()) fail(source_, ": holds no text");
    hash.add(file_->bytes());
    bytes_ = text.size();
    file_->release(file_->bytes());
  }
  hash_ = hash.hex();
}

void Documents::add_pieces(std::string_view text, std::size_t offset, std::size_t size) {
  while (size > kLongestText) {
    const std::size_t length = piece_length(text.substr(offset, kLongestText + 1));
    places_.push_back({offset, length});
    offset += length, size -= length;
  }
  places_.push_back({offset, size});
}

// Between two texts stands an end of line at least, between two pieces of one nothing.
bool Documents::goes_on(std::size_t index) const {
  return index + 1 < places_.size() && places_[index].offset + places_[index].size == places_[index + 1].offset;
}

// Every line is looked at now: a run of days must not end at a line that could have been seen at its start.
void Documents::find_lines(std::string_view text) {
  std::vector<std::size_t> numbers;  // dropped afterwards
  for_each_line(text, [&](std::string_view line, std::size_t number, std::size_t offset) {
    if (is_blank(line)) return;
    places_.push_back({offset, line.size()});
    numbers.push_back(number);
    // The first conversation decides: the template must be known before lines are looked at side by side.
    if (!form_ && line.find("\"messages\"") != std::string_view::npos && has_list(parse_object(line, source_, number), "messages"))
      form_ = checked_chat_form(tokenizer_, source_);
  });
  const auto lines = static_cast<std::int64_t>(places_.size());
  parallel_for((lines + kLinesPerCheck - 1) / kLinesPerCheck, [&](std::int64_t part) {
    check_interrupt();
    for (std::int64_t i = part * kLinesPerCheck; i < std::min(lines, (part + 1) * kLinesPerCheck); ++i) {
      const Place& place = places_[static_cast<std::size_t>(i)];
      check_line(text.substr(place.offset, place.size), numbers[static_cast<std::size_t>(i)]);
    }
  });
}

void Documents::check_line(std::string_view line, std::size_t number) const {
  nlohmann::json object = parse_object(line, source_, number);
  if (has_list(object, "input_ids")) {
    take_ids(object["input_ids"], tokenizer_.vocab_size(), source_, number);
  } else if (has_list(object, "messages")) {
    const auto messages = take_messages(object["messages"], source_, number);
    if (!form_) fail(source_, ": line ", number, ": the key \"messages\" is written with escapes; write it plainly");
    try {
      render_chat(*form_, messages);
    } catch (const Error& error) {
      fail(source_, ": line ", number, ": ", error.what());
    }
  } else if (object.contains("text")) {
    take_text(object, source_, number);
  } else {
    fail(source_, ": line ", number, " has neither \"text\" nor a list of \"messages\" or of \"input_ids\"");
  }
}

Document Documents::at(std::size_t index) const {
  if (!file_) return of_text(texts_.at(index));
  const Place& place = places_.at(index);
  const std::string_view text = as_text(file_->bytes()).substr(place.offset, place.size);
  return jsonl_ ? of_object(parse_object(text, source_, index + 1), index + 1) : of_text(std::string(text), index == 0 || !goes_on(index - 1), !goes_on(index));
}

Document Documents::of_text(const std::string& text, bool begins, bool ends) const {
  Document document;
  if (text.empty()) return document;
  const TokenizerData& data = tokenizer_.data();
  if (data.add_bos && begins) document.ids.push_back(data.bos_id);
  const Ids body = tokenizer_.encode(text, false);
  document.ids.insert(document.ids.end(), body.begin(), body.end());
  if (data.eos_id >= 0 && ends) document.ids.push_back(data.eos_id);
  return document;
}

Document Documents::of_object(nlohmann::json object, std::size_t number) const {
  if (has_list(object, "input_ids")) return {take_ids(object["input_ids"], tokenizer_.vocab_size(), source_, number), {}};
  if (has_list(object, "messages")) return of_messages(object["messages"], number);
  return of_text(take_text(object, source_, number));
}

// The conversation is tokenized as one text, since that is what the model will see; a part begins at the first token that would be
// another, or not there, if the text ended before it.
Document Documents::of_messages(const nlohmann::json& list, std::size_t number) const {
  const std::vector<ChatPart> parts = render_chat_parts(*form_, take_messages(list, source_, number));
  std::string text;
  for (const ChatPart& part : parts) text += part.text;
  Document document;
  if (form_->bos) document.ids.push_back(tokenizer_.data().bos_id);
  const auto first = static_cast<std::ptrdiff_t>(document.ids.size());
  const Ids body = tokenizer_.encode(text, false);
  document.ids.insert(document.ids.end(), body.begin(), body.end());
  document.learn.assign(document.ids.size(), 0);
  std::string before;
  std::ptrdiff_t begin = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    before += parts[i].text;
    std::ptrdiff_t end = std::ssize(body);
    if (i + 1 < parts.size()) {
      const Ids ids = tokenizer_.encode(before, false);
      end = std::mismatch(ids.begin(), ids.end(), body.begin(), body.end()).second - body.begin();
    }
    if (parts[i].learn && end > begin)
      std::fill(document.learn.begin() + first + begin, document.learn.begin() + first + end, std::uint8_t{1});
    begin = std::max(begin, end);
  }
  return document;
}

}  // namespace attar
