// The patterns are written for Oniguruma (Hugging Face's tokenizers) and matched by PCRE2; compile() bridges the
// difference.
#include "datasets/split_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/console.h"
#include "base/error.h"
#include "datasets/unicode.h"

namespace attar {
namespace {

// White space as Oniguruma's \s has it (Unicode's White_Space). PCRE2's own \s also takes U+180E, which is none any
// more.
constexpr std::string_view kSpaces = R"(\t-\r\x{85}\p{Z})";

std::string translate(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's')
        out += in_class ? std::string(kSpaces) : cat('[', kSpaces, ']');
      else if (escaped == 'S' && !in_class)
        out += cat("[^", kSpaces, ']');
      else
        (out += c) += escaped;
      continue;
    }
    if (c == '[') {
      if (!in_class && i + 1 < pattern.size() && (pattern[i + 1] == ']' || pattern.substr(i + 1, 2) == "^]")) {
        const std::size_t taken = pattern[i + 1] == ']' ? 2 : 3;  // a bracket right at the start stands for itself
        out += pattern.substr(i, taken);
        i += taken - 1;
        in_class = true;
        continue;
      }
      in_class = true;
    } else if (c == ']') {
      in_class = false;
    }
    out += c;
  }
  return out;
}

std::string message_of(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

constexpr std::uint32_t kMatchLimit = 200'000'000;       // steps of one match: ends a regex that would run for ever
constexpr std::size_t kJitStack = std::size_t{8} << 20;  // bytes at most

}  // namespace

struct SplitRegexes::Compiled {
  std::string pattern;
  std::unique_ptr<pcre2_code, void (*)(pcre2_code*)> code{nullptr, pcre2_code_free};
};

struct SplitRegexes::Workspace::State {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 * 1024, kJitStack, nullptr);
  State() {
    pcre2_set_match_limit(context, kMatchLimit);
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

SplitRegexes::Workspace::Workspace() : state_(std::make_unique<State>()) {}
SplitRegexes::Workspace::~Workspace() = default;

SplitRegexes::SplitRegexes(const std::vector<std::string>& patterns) {
  for (const auto& pattern : patterns) {
    const std::string translated = translate(pattern);
    int error = 0;
    PCRE2_SIZE offset = 0;
    // In Oniguruma ^ and $ always match at lines. \C could cut a character in two.
    pcre2_code* code =
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
    if (code == nullptr)
      fail("tokenizer: the split regex '", pattern, "' is not one that PCRE2 understands: ", message_of(error));
    Compiled compiled;
    compiled.pattern = pattern;
    compiled.code.reset(code);
    pcre2_jit_compile(code,
                      PCRE2_JIT_COMPLETE);  // where the processor has no JIT the interpreter gives the same matches
    compiled_.push_back(std::move(compiled));
  }
}

SplitRegexes::~SplitRegexes() = default;

void SplitRegexes::split(std::string_view text, Workspace& workspace,
                         const std::function<void(std::string_view)>& word) const {
  if (!text.empty()) split_from(0, text, workspace, word);
}

void SplitRegexes::split_from(std::size_t index, std::string_view text, Workspace& workspace,
                              const std::function<void(std::string_view)>& word) const {
  if (index == compiled_.size()) return word(text);
  const auto give = [&](std::size_t begin, std::size_t end) {
    if (begin < end) split_from(index + 1, text.substr(begin, end - begin), workspace, word);
  };
  const Compiled& regex = compiled_[index];
  auto* const match = workspace.state_->match;
  std::size_t given = 0;
  for (std::size_t from = 0; from < text.size();) {
    const int found = pcre2_match(regex.code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                  PCRE2_NO_UTF_CHECK, match, workspace.state_->context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) fail("tokenizer: the split regex '", regex.pattern, "' fails on this text: ", message_of(found));
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(match);
    const std::size_t begin = offsets[0], end = offsets[1];
    if (begin < given || end < begin)
      fail("tokenizer: the split regex '", regex.pattern, "' matches backwards (\\K in a look-around)");
    give(given, begin);
    give(begin, end);
    given = end;
    from = end;
    if (begin == end && end < text.size()) from += utf8_length(text[end]);  // past an empty match
  }
  give(given, text.size());
}

}  // namespace attar
