// Writes well-formed files of every kind, small enough for a fuzzer to get far from:  fuzz_seeds FOLDER
#include <filesystem>
#include <iostream>

#include "base/files.h"
#include "convert/mlx.h"
#include "convert/safetensors.h"
#include "tests/convert/synthetic.h"

namespace {

using namespace attar;

nlohmann::json small(nlohmann::json config) {
  config.update({{"hidden_size", 8},
                 {"intermediate_size", 8},
                 {"num_hidden_layers", 1},
                 {"num_attention_heads", 2},
                 {"num_key_value_heads", 1},
                 {"head_dim", 16},
                 {"vocab_size", 12}});
  if (config.contains("max_window_layers")) config["max_window_layers"] = 0;
  return config;
}

void write_seeds(const fs::path& folder) {
  for (const char* kind : {"safetensors", "gguf", "config", "tokenizer"}) fs::create_directories(folder / kind);
  const fs::path scratch = folder / "scratch";
  fs::create_directories(scratch);
  int index = 0;
  for (const auto& [name, config] : test::all_variants()) {
    const std::string stem = std::to_string(index++);
    write_text_file(folder / "config" / stem, config.dump());
    Checkpoint checkpoint = test::make_checkpoint(small(config), index % 2 == 0 ? Type::kF16 : Type::kF32);
    checkpoint.tokenizer = test::byte_bpe_tokenizer();
    write_gguf(checkpoint, folder / "gguf" / stem);
    write_safetensors(folder / "safetensors" / stem, {checkpoint.tensors[0], checkpoint.tensors[1]},
                      {{"format", "pt"}});
  }
  const std::vector<float> ramp = {0, 1, 2, 3, 4, 5, 6, 7};
  std::vector<float> row;
  for (int i = 0; i < 8; ++i) row.insert(row.end(), ramp.begin(), ramp.end());
  write_safetensors(folder / "safetensors/mlx",
                    to_mlx({make_tensor("a.weight", {2, 32}, row, *group_type({true, 3, 32})),
                            make_tensor("m.weight", {1, 64}, row, *group_type({false, 8, 64}))}),
                    {{"format", "mlx"}});
  write_tokenizer_files(test::byte_bpe_tokenizer(), scratch);
  const std::string json = read_text_file(scratch / "tokenizer.json");
  write_text_file(folder / "tokenizer/0", std::string(1, '\0') + json);
  write_text_file(folder / "tokenizer/1", std::string(1, '\1') + json + std::string(1, '\0') +
                                              read_text_file(scratch / "tokenizer_config.json"));
  write_text_file(folder / "tokenizer/2", std::string(1, '\2') + sentencepiece_model(test::sentencepiece_tokenizer()));
  TokenizerData metaspace = test::sentencepiece_tokenizer();
  metaspace.kind = TokenizerKind::kMetaspaceBpe;
  metaspace.merges = {{"a", "b"}, {"\xe2\x96\x81", "a"}};
  write_tokenizer_files(metaspace, scratch);
  write_text_file(folder / "tokenizer/3", std::string(1, '\0') + read_text_file(scratch / "tokenizer.json"));
  fs::remove_all(scratch);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: fuzz_seeds FOLDER\n";
    return 2;
  }
  try {
    write_seeds(argv[1]);
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
