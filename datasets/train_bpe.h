// Learning a byte-level BPE vocabulary from text.
//
// Rico Sennrich, Barry Haddow, Alexandra Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL
// 2016, section 3.2, https://arxiv.org/abs/1508.07909, on bytes as GPT-2 has it (Radford et al. 2019).
#pragma once

#include <string>
#include <vector>

#include "convert/tokenizer_data.h"

namespace attar {

// Token 0 is "<|endoftext|>", begin and end of text in one, put before a text (add_bos); tokens 1 to 256 are the bytes
// in order; the rest are merged, most frequent pair first, among equals the one with the smaller ids. Words never merge
// across GPT-2's splits, so the result is known to GGUF as "gpt-2". The same documents give the same vocabulary.
// Throws Error if vocab_size is below 257 or the documents are too few for so many tokens.
TokenizerData train_bpe(const std::vector<std::string>& documents, int vocab_size);

}  // namespace attar
