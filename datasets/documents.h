// A text source as the documents a model meets, any of them at any time: of a file only the places of its documents are
// held, so it may be larger than memory. A text of a .txt that is longer than kLongestText is met in pieces, each a document of its own: cut at
// the end of a line, else between words, else between characters, with BOS only before the first piece and EOS only after the last.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/files.h"
#include "datasets/chat.h"
#include "datasets/tokenizer.h"

namespace attar {

constexpr std::size_t kLongestText = std::size_t{1} << 20;  // bytes

struct Document {
  Ids ids;
  // One for each id: whether a model is to learn to say it. Of a conversation these are the assistant's words and the marker that
  // ends them. Empty: all.
  std::vector<std::uint8_t> learn;
};

// The form of the model's chat template, whose markers its tokenizer must know. Throws Error; source: for its text.
ChatForm checked_chat_form(const Tokenizer& tokenizer, const std::string& source);
// Throws Error naming the line for what is not a list of {"role": "...", "content": "..."}.
std::vector<Message> take_messages(const nlohmann::json& list, const std::string& source, std::size_t number);

class Documents {
 public:
  // source: as in datasets/corpus.h; the tokenizer lives longer than this. Reads all of it once. Throws Error: missing, empty, not
  // UTF-8 (names the byte), and naming the line: not JSON, none of "text", "messages", "input_ids", messages that the template does
  // not take or whose markers are no tokens, an id that the tokenizer does not know.
  Documents(const Tokenizer& tokenizer, std::string source);

  std::size_t size() const { return places_.empty() ? texts_.size() : places_.size(); }
  // Text (see above for long ones): BOS before it if the tokenizer adds one, EOS after it if there is one; nothing at all if it is empty. Messages: as the
  // chat template has them, BOS before if either adds one. May be called from many threads.
  Document at(std::size_t index) const;
  std::uint64_t bytes() const { return bytes_; }
  const std::string& hash() const { return hash_; }  // of the source's bytes

 private:
  struct Place {
    std::uint64_t offset, size;
  };
  // begins, ends: whether a piece of a text is its first, its last.
  Document of_text(const std::string& text, bool begins = true, bool ends = true) const;
  bool goes_on(std::size_t index) const;  // in the next piece
  void add_pieces(std::string_view text, std::size_t offset, std::size_t size);
  Document of_object(nlohmann::json object, std::size_t number) const;
  Document of_messages(const nlohmann::json& list, std::size_t number) const;
  void find_lines(std::string_view text);
  void check_line(std::string_view line, std::size_t number) const;

  const Tokenizer& tokenizer_;
  std::string source_, hash_;
  std::unique_ptr<MappedFile> file_;  // null: a built-in corpus
  std::vector<std::string> texts_;
  std::vector<Place> places_;
  std::optional<ChatForm> form_;
  std::uint64_t bytes_ = 0;
  bool jsonl_ = false;
};

}  // namespace attar
