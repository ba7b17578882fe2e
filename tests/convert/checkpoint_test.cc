#include "convert/checkpoint.h"

#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>

#include "convert/json.h"
#include "convert/safetensors.h"
#include "tests/convert/bytes.h"
#include "tests/convert/synthetic.h"

namespace attar {
namespace {

class CheckpointTest : public ::testing::Test {
 protected:
  std::string open(const fs::path& path) {
    return test::error_of([&] { open_checkpoint(path); });
  }
  void says(const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << "said: '" << message << "', expected: '" << part << "'";
  }
  test::TempFolder folder_;
};

void expect_same_floats(const Checkpoint& a, const Checkpoint& b, const std::string& what) {
  ASSERT_EQ(a.tensors.size(), b.tensors.size()) << what;
  for (std::size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_EQ(a.tensors[i].name, b.tensors[i].name) << what;
    EXPECT_EQ(a.tensors[i].shape, b.tensors[i].shape) << what;
    EXPECT_EQ(read_floats(a.tensors[i]), read_floats(b.tensors[i])) << what << " " << a.tensors[i].name;
  }
}

// What decides the numbers a model computes.
nlohmann::json meaning(const ModelConfig& config) {
  nlohmann::json json = config_json(config);
  for (const char* key : {"dtype", "torch_dtype", "architectures", "model_type", "sliding_window_pattern",
                          "max_window_layers", "layer_types"})
    json.erase(key);
  if (!json.contains("sliding_window")) json["sliding_window"] = nullptr;
  if (config.family == Family::kMistral || config.family == Family::kLlama)
    json.erase("attention_bias"), json.erase("mlp_bias");
  return json;
}

TEST_F(CheckpointTest, EveryFamilyThroughBothFormats) {
  for (const auto& [name, json] : test::all_variants()) {
    for (const Type type : {Type::kF32, Type::kF16, Type::kBF16}) {
      const Checkpoint made = test::make_checkpoint(json, type);
      write_hf(made, folder_ / "hf");
      const Checkpoint hf = open_checkpoint(folder_ / "hf");
      expect_same_floats(made, hf, name + " hf");
      EXPECT_EQ(hf.tensors[0].type, type);
      EXPECT_EQ(meaning(hf.config), meaning(made.config)) << name;
      write_gguf(hf, folder_ / "m.gguf");
      const Checkpoint gguf = open_checkpoint(folder_ / "m.gguf");
      EXPECT_EQ(gguf.tensors[0].type, type);
      expect_same_floats(made, gguf, name + " gguf");
      EXPECT_EQ(gguf.config.rope.type, made.config.rope.type) << name;
      EXPECT_EQ(gguf.config.sliding_layers, made.config.sliding_layers) << name;
      write_hf(gguf, folder_ / "hf2");
      const Checkpoint again = open_checkpoint(folder_ / "hf2");
      expect_same_floats(made, again, name + " hf again");
      nlohmann::json expected = meaning(made.config), got = meaning(again.config);
      EXPECT_EQ(got, expected) << name;
      EXPECT_EQ(again.tokenizer.tokens.size(), 300u);  // padded to the vocabulary
      EXPECT_EQ(again.tokenizer.tokens[263], made.tokenizer.tokens[263]);
      EXPECT_EQ(again.tokenizer.add_bos, made.tokenizer.add_bos);
    }
  }
}

TEST_F(CheckpointTest, SameInputsGiveTheSameBytes) {
  const Checkpoint made = test::make_checkpoint(test::base_config("gemma2"), Type::kBF16);
  write_gguf(made, folder_ / "a.gguf");
  write_gguf(made, folder_ / "b.gguf");
  EXPECT_EQ(read_text_file(folder_ / "a.gguf"), read_text_file(folder_ / "b.gguf"));
  write_hf(made, folder_ / "a");
  write_hf(made, folder_ / "b");
  EXPECT_EQ(read_text_file(folder_ / "a" / "model.safetensors"), read_text_file(folder_ / "b" / "model.safetensors"));
}

TEST_F(CheckpointTest, PackedTensorsStayPacked) {
  Checkpoint made = test::make_checkpoint(test::base_config("llama"));
  for (Tensor& tensor : made.tensors)
    if (tensor.shape.size() == 2) tensor = make_tensor(tensor.name, tensor.shape, read_floats(tensor), Type::kQ8_0);
  write_gguf(made, folder_ / "m.gguf", {{}, 7, "packed"});
  const Checkpoint gguf = open_checkpoint(folder_ / "m.gguf");
  EXPECT_EQ(gguf.metadata["general.file_type"], 7);
  EXPECT_EQ(gguf.metadata["general.name"], "packed");
  for (std::size_t i = 0; i < made.tensors.size(); ++i) {
    EXPECT_EQ(gguf.tensors[i].type, made.tensors[i].type);
    EXPECT_EQ(read_packed(gguf.tensors[i]).bytes, read_packed(made.tensors[i]).bytes) << made.tensors[i].name;
  }
  write_hf(gguf, folder_ / "hf");
  const Checkpoint hf = open_checkpoint(folder_ / "hf");
  EXPECT_EQ(hf.tensors[0].type, Type::kF32);
  expect_same_floats(gguf, hf, "decoded");
}

TEST_F(CheckpointTest, Shards) {
  const Checkpoint made = test::make_checkpoint(test::base_config("llama"));
  HfOptions options;
  options.max_shard_bytes = 60'000;
  write_hf(made, folder_ / "hf", options);
  const nlohmann::json index = nlohmann::json::parse(read_text_file(folder_ / "hf/model.safetensors.index.json"));
  EXPECT_EQ(index["metadata"]["total_size"], made.tensor_bytes());
  const std::string first = index["weight_map"]["model.embed_tokens.weight"],
                    last = index["weight_map"]["lm_head.weight"];
  EXPECT_TRUE(first.starts_with("model-00001-of-000"));
  EXPECT_NE(first, last);
  expect_same_floats(made, open_checkpoint(folder_ / "hf"), "sharded");
  fs::remove(folder_ / "hf" / last);
  says(open(folder_ / "hf"), last + " is missing");
}

TEST_F(CheckpointTest, HashIsOfTheModelNotTheFile) {
  const Checkpoint a = test::make_checkpoint(test::base_config("llama")),
                   b = test::make_checkpoint(test::base_config("llama"), Type::kF32, 2);
  EXPECT_EQ(checkpoint_hash(a), checkpoint_hash(a));
  EXPECT_NE(checkpoint_hash(a), checkpoint_hash(b));
  write_hf(a, folder_ / "one");
  HfOptions options;
  options.max_shard_bytes = 60'000;
  write_hf(a, folder_ / "six", options);
  EXPECT_EQ(checkpoint_hash(open_checkpoint(folder_ / "one")), checkpoint_hash(open_checkpoint(folder_ / "six")));
}

TEST_F(CheckpointTest, MissingAndExtraTensorsAreNamed) {
  Checkpoint made = test::make_checkpoint(test::base_config("llama"));
  const auto write = [&](const std::vector<Tensor>& tensors) {
    write_hf(made, folder_ / "hf");
    write_safetensors(folder_ / "hf/model.safetensors", tensors);
    return open(folder_ / "hf");
  };
  std::vector<Tensor> tensors = made.tensors;
  tensors.erase(tensors.begin() + 2);
  says(write(tensors), "missing: model.layers.0.self_attn.q_proj.weight");
  tensors = made.tensors;
  tensors.push_back(make_tensor("model.layers.9.extra", {1}, {1}));
  says(write(tensors), "do not belong to this config: model.layers.9.extra");
  tensors = made.tensors;
  tensors.push_back(make_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {1}, {1}));
  EXPECT_EQ(write(tensors), "no error");
  tensors = made.tensors;
  tensors[1] = make_tensor(tensors[1].name, {3}, {1, 2, 3});
  says(write(tensors), "model.layers.0.input_layernorm.weight has shape (3), the config asks for (64)");
  tensors = made.tensors;
  tensors[1] = make_tensor(tensors[1].name, QuantizedTensor{Type::kI32, {64}, Bytes(256)});
  says(write(tensors), "a weight must be floating point");
  EXPECT_ERROR(made.at("model.layers.0.self_attn.q_proj.wait"),
               "did you mean 'model.layers.0.self_attn.q_proj.weight'?");
}

TEST_F(CheckpointTest, AHeadThatIsTiedAnywayIsLeftOut) {
  Checkpoint made = test::make_checkpoint(test::base_config("llama", {{"tie_word_embeddings", true}}));
  write_hf(made, folder_ / "hf");
  std::vector<Tensor> tensors = made.tensors;
  tensors.push_back(make_tensor("lm_head.weight", {300, 64}, read_floats(made.tensors[0])));
  write_safetensors(folder_ / "hf/model.safetensors", tensors);
  EXPECT_EQ(open_checkpoint(folder_ / "hf").find("lm_head.weight"), nullptr);
}

TEST_F(CheckpointTest, WrappedNamesOfMultimodalFiles) {
  Checkpoint made = test::make_checkpoint(test::base_config("gemma3_text"));
  for (const std::string prefix : {"language_model.", "model.language_model."}) {
    write_hf(made, folder_ / "hf");
    std::vector<Tensor> tensors = made.tensors;
    for (Tensor& tensor : tensors)
      tensor.name =
          prefix == "language_model." ? prefix + tensor.name : "model.language_model." + tensor.name.substr(6);
    tensors.push_back(make_tensor("model.vision_tower.x", {1}, {1}));
    write_safetensors(folder_ / "hf/model.safetensors", tensors);
    expect_same_floats(made, open_checkpoint(folder_ / "hf"), prefix);
  }
}

TEST_F(CheckpointTest, PathsThatAreNoModel) {
  says(open(folder_ / "absent"), "does not exist");
  says(open(folder_.path()), "has no config.json; found nothing");
  test::put(folder_ / "readme.txt", "x");
  says(open(folder_.path()), "found readme.txt");
  says(open(folder_ / "readme.txt"), "is neither a folder");
  test::put(folder_ / "config.json", test::base_config("llama").dump());
  says(open(folder_.path()), "has neither model.safetensors nor");
  test::put(folder_ / "config.json", "{");
  says(open(folder_.path()), "not valid JSON");
  test::put(folder_ / "config.json", "");
  says(open(folder_.path()), "not valid JSON");
}

TEST_F(CheckpointTest, PicklesAreRefusedWithTheWayOut) {
  for (const char* name : {"pytorch_model.bin", "model.pt", "model.pth", "model.ckpt"}) {
    test::TempFolder folder;
    test::put(folder / name, "\x80\x02");
    says(open(folder / name), "safe_serialization=True");
    says(open(folder.path()), "safe_serialization=True");
    test::put(folder / "config.json", test::base_config("llama").dump());
    says(open(folder.path()), "is a pickle");
  }
}

TEST_F(CheckpointTest, ATokenizerOfAnotherModelIsRefused) {
  Checkpoint made = test::make_checkpoint(test::base_config("llama", {{"vocab_size", 263}}));
  says(test::error_of([&] { write_gguf(made, folder_ / "m.gguf"); }), "does not match the vocabulary");
  write_hf(made, folder_ / "hf");
  says(open(folder_ / "hf"), "the tokenizer does not match the vocabulary: it has 264 tokens, the model 263");
}

TEST_F(CheckpointTest, AddedTokensPastTheVocabularyAreLeftOut) {
  Checkpoint made = test::make_checkpoint(test::base_config("qwen2", {{"vocab_size", 8}, {"eos_token_id", 7}}));
  made.tokenizer = test::byte_bpe_tokenizer();
  write_hf(made, folder_ / "hf");
  const Checkpoint opened = open_checkpoint(folder_ / "hf");
  EXPECT_EQ(opened.tokenizer.size(), 8u);
  EXPECT_EQ(opened.tokenizer.added.size(), 1u);
}

TEST_F(CheckpointTest, WithoutATokenizer) {
  Checkpoint made = test::make_checkpoint(test::base_config("llama"));
  made.tokenizer = {};
  write_hf(made, folder_ / "hf");
  const Checkpoint hf = open_checkpoint(folder_ / "hf");
  EXPECT_EQ(hf.tokenizer.kind, TokenizerKind::kNone);
  write_gguf(hf, folder_ / "m.gguf");
  EXPECT_EQ(open_checkpoint(folder_ / "m.gguf").tokenizer.kind, TokenizerKind::kNone);
}

TEST_F(CheckpointTest, WhatGgufCannotSayIsAnError) {
  const auto write = [&](const nlohmann::json& config) {
    return test::error_of([&] { write_gguf(test::make_checkpoint(config), folder_ / "m.gguf"); });
  };
  says(write(test::base_config("llama", {{"hidden_act", "gelu"}})), "llama.cpp has only silu");
  says(write(test::base_config("llama", {{"partial_rotary_factor", 0.5}})), "turns whole heads");
  says(write(test::base_config("gemma2", {{"attn_logit_softcapping", nullptr}})), "always caps");
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(CheckpointTest, OutputThatCannotBeWritten) {
  const Checkpoint made = test::make_checkpoint(test::base_config("llama"));
  says(test::error_of([&] { write_gguf(made, folder_ / "no/such/m.gguf"); }), "cannot write");
  says(test::error_of([&] { write_hf(made, folder_ / "no/such/hf"); }), "cannot write");
  fs::create_directory(folder_ / "m.gguf");
  says(test::error_of([&] { write_gguf(made, folder_ / "m.gguf"); }), "it is a folder");
  test::put(folder_ / "file", "x");
  says(test::error_of([&] { write_hf(made, folder_ / "file"); }), "a file of that name exists");
  fs::create_directory(folder_ / "other");
  test::put(folder_ / "other/precious.txt", "x");
  says(test::error_of([&] { write_hf(made, folder_ / "other"); }), "holds something else than a model");
  EXPECT_TRUE(fs::exists(folder_ / "other/precious.txt"));
}

// A limit on the size of files makes writing fail as a full disk does: partway.
TEST_F(CheckpointTest, AFullDiskLeavesNothing) {
  const Checkpoint made = test::make_checkpoint(test::base_config("llama"));
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{40'000, 40'000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const bool gguf =
        test::error_of([&] { write_gguf(made, folder_ / "m.gguf"); }).find("cannot write") != std::string::npos;
    const bool hf = test::error_of([&] { write_hf(made, folder_ / "hf"); }).find("cannot write") != std::string::npos;
    ::_exit(gguf && hf ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

}  // namespace
}  // namespace attar
