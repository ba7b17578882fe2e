// How byte-level BPE cuts text into words before merging, by the name GGUF knows it under. The only table of these
// regexes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "convert/tokenizer_data.h"

namespace attar {

struct Pretokenizer {
  std::string name;                  // tokenizer.ggml.pre
  std::vector<std::string> regexes;  // as Hugging Face's tokenizer.json of that family has them; see split_regexes
  bool ignore_merges = false;
  bool nfc = false;
};

const std::vector<Pretokenizer>& all_pretokenizers();
// Throws Error with the nearest name if there is none called so.
const Pretokenizer& find_pretokenizer(std::string_view name);
// The first entry that cuts and normalises as data does, so that a GGUF of it may carry the name; nullptr if none does.
const Pretokenizer* match_pretokenizer(const TokenizerData& data);

}  // namespace attar
