// What GGUF's keys and tensors mean for a model: its config, tokenizer and tensors, both ways. Follows llama.cpp's own
// converter (https://github.com/ggml-org/llama.cpp, conversion/*.py). docs/formats/gguf.md lists the keys.
#pragma once

#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "convert/gguf.h"

namespace attar {

ModelConfig read_gguf_config(const GgufFile& file);
void write_gguf_config(const ModelConfig& config, GgufWriter& writer);

TokenizerData read_gguf_tokenizer(const GgufFile& file);
// Pads the vocabulary to config.vocab_size. Throws Error for a split regex that GGUF has no name for.
void write_gguf_tokenizer(const TokenizerData& tokenizer, const ModelConfig& config, GgufWriter& writer);

// "model.layers.3.self_attn.q_proj.weight" -> "blk.3.attn_q.weight"
std::string gguf_tensor_name(const std::string& canonical, const ModelConfig& config);
// llama.cpp turns neighbouring dimensions of a head, Hugging Face those half a head apart: arch llama stores the rows
// of q and k (and their biases) in another order. The row of the file where canonical row `row` of a head of d rows is.
inline std::int64_t interleaved_row(std::int64_t row, std::int64_t d) {
  return row < d / 2 ? 2 * row : 2 * (row - d / 2) + 1;
}
inline std::int64_t halved_row(std::int64_t row, std::int64_t d) { return row % 2 == 0 ? row / 2 : d / 2 + row / 2; }
// A file's tensor in canonical form, and a canonical one in the file's form.
Tensor from_gguf(Tensor tensor, const ModelConfig& config);
Tensor to_gguf(Tensor tensor, const ModelConfig& config);

// Llama 3's scaling as llama.cpp has it: what each frequency is divided by, head_dim / 2 numbers.
std::vector<float> rope_frequency_factors(const ModelConfig& config);
// The llama3 parameters that give these factors; nothing if none do.
bool recover_llama3(const std::vector<double>& factors, Rope& rope, std::int64_t head_dim);

}  // namespace attar
