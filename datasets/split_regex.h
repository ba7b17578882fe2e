// Cuts text into words with the regexes of a byte-level tokenizer.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace attar {

// The regexes of one tokenizer, compiled. Each is applied to what the one before it left, and isolates its matches: a
// match is a piece, and so is what lies between two matches. Look-around sees only the piece it works on, as in
// tokenizer.json.
class SplitRegexes {
 public:
  explicit SplitRegexes(const std::vector<std::string>& patterns);  // throws Error: not a regex
  ~SplitRegexes();
  SplitRegexes(const SplitRegexes&) = delete;
  SplitRegexes& operator=(const SplitRegexes&) = delete;

  // What matching needs of its own; one per thread at a time.
  class Workspace {
   public:
    Workspace();
    ~Workspace();
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

   private:
    friend class SplitRegexes;
    struct State;
    std::unique_ptr<State> state_;
  };

  // Calls word(piece) for every piece of text (well-formed UTF-8) in order; no piece is empty.
  void split(std::string_view text, Workspace& workspace, const std::function<void(std::string_view)>& word) const;

 private:
  struct Compiled;
  void split_from(std::size_t index, std::string_view text, Workspace& workspace,
                  const std::function<void(std::string_view)>& word) const;
  std::vector<Compiled> compiled_;
};

}  // namespace attar
