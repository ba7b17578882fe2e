// Importance of the columns of every matrix, and llama.cpp's file for it.
//
//   Kawrakow, "Importance Matrix calculation", 2024, https://github.com/ggml-org/llama.cpp/pull/4861.
//
// The file is what llama-imatrix writes (llama.cpp, tools/imatrix, build 11669): a GGUF with general.type "imatrix" and, for
// every matrix NAME of the model's GGUF, the float32 tensors NAME.in_sum2 (columns): sums of squared inputs, and
// NAME.counts (1): over how many tokens. docs/methods/rtn.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "convert/checkpoint.h"
#include "datasets/tokenizer.h"

namespace attar {

struct ImportanceMatrix {
  struct Entry {
    std::vector<float> sums;  // by column: sum over tokens of the squared input
    double tokens = 0;
    std::vector<float> mean() const;  // square of an input, by column
  };
  std::map<std::string, Entry> entries;  // by the matrix's name in a GGUF
  std::vector<std::string> datasets;
  std::int64_t chunks = 0, chunk_tokens = 0;
};

// Throws Error: not such a file, a pair that is not complete, values that are not finite or negative.
ImportanceMatrix read_imatrix(const std::filesystem::path& path);
void write_imatrix(const ImportanceMatrix& imatrix, const std::filesystem::path& path);

// Runs the model layer by layer over chunks of one length. Same result at any number of threads. spill: a folder on whose disk hidden states
// are meanwhile; empty: they are in memory.
ImportanceMatrix measure_imatrix(const Checkpoint& model, const std::vector<Ids>& chunks, const std::filesystem::path& spill = {});

}  // namespace attar
