// Names: llama.cpp's src/llama-vocab.cpp (https://github.com/ggml-org/llama.cpp). Regexes: the tokenizer.json files of
// the models each name was made for, as published by their authors; llama.cpp's own differ in spelling, not in what
// they match.
#include "convert/pretokenizers.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

constexpr const char* kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kCl100k =  // Llama 3, Phi-4 and other heirs of OpenAI's cl100k: up to three digits together
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =  // the same, digits one by one
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

}  // namespace

const std::vector<Pretokenizer>& all_pretokenizers() {
  static const std::vector<Pretokenizer> table = {
      {"gpt-2", {kGpt2}},
      {"phi-2", {kGpt2}},
      {"olmo", {kGpt2}},
      {"mpt", {kGpt2}, false, true},
      {"llama-bpe", {kCl100k}, true},
      {"llama3", {kCl100k}, true},
      {"llama-v3", {kCl100k}, true},
      {"falcon3", {kCl100k}, true},
      {"smaug-bpe", {kCl100k}},
      {"dbrx", {kCl100k}},
      {"qwen2", {kQwen2}, false, true},
      {"deepseek-r1-qwen", {kQwen2}},
      {"stablelm2", {kQwen2}},
      {"megrez", {kQwen2}, false, true},
      {"qwen35", {kQwen35}, false, true},
      {"smollm", {R"(\p{N})", kGpt2}},
      {"starcoder", {R"(\p{N})", kGpt2}},
      {"refact", {R"(\p{N})", kGpt2}},
      {"command-r", {R"(\p{N})", kGpt2}, false, true},
      {"tekken", {kTekken}, true},
      {"gpt-4o", {kO200k}},
      {"deepseek-coder", {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", R"([一-龥ࠀ-一가-퟿]+)", R"(\p{N})"}},
      {"deepseek-v3",
       {R"(\p{N}{1,3})", R"([一-龥぀-ゟ゠-ヿ]+)",
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}},
      {"default", {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", R"([0-9][0-9][0-9])"}},
  };
  return table;
}

const Pretokenizer& find_pretokenizer(std::string_view name) {
  const auto& table = all_pretokenizers();
  const auto found = std::find_if(table.begin(), table.end(), [&](const Pretokenizer& p) { return p.name == name; });
  if (found != table.end()) return *found;
  std::vector<std::string> names;
  for (const auto& entry : table) names.push_back(entry.name);
  fail("tokenizer: unknown pre-tokenizer '", name, "' (tokenizer.ggml.pre)", suggest(name, names));
}

const Pretokenizer* match_pretokenizer(const TokenizerData& data) {
  for (const auto& entry : all_pretokenizers())
    if (entry.regexes == data.split_regexes && entry.ignore_merges == data.ignore_merges && entry.nfc == data.nfc)
      return &entry;
  return nullptr;
}

}  // namespace attar
