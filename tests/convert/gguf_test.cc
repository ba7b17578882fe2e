#include "convert/gguf.h"

#include "convert/gguf_model.h"
#include "tests/convert/bytes.h"
#include "tests/convert/synthetic.h"

namespace attar {
namespace {

using test::le;

std::string text(const std::string& value) { return le(static_cast<std::uint64_t>(value.size())) + value; }
std::string u32_value(const std::string& key, std::uint32_t value) {
  return text(key) + le(std::uint32_t{4}) + le(value);
}

struct Info {
  std::string name;
  std::vector<std::uint64_t> dims;
  std::uint32_t type = 0;
  std::uint64_t offset = 0;
};

std::string info_bytes(const Info& info) {
  std::string bytes = text(info.name) + le(static_cast<std::uint32_t>(info.dims.size()));
  for (const std::uint64_t size : info.dims) bytes += le(size);
  return bytes + le(info.type) + le(info.offset);
}

// A file with these key-values and tensor infos; counts are right unless given.
std::string file_of(const std::vector<std::string>& values, const std::vector<Info>& infos, const std::string& data,
                    std::optional<std::uint64_t> tensor_count = {}, std::optional<std::uint64_t> value_count = {}) {
  std::string bytes =
      "GGUF" + le(std::uint32_t{3}) + le(tensor_count.value_or(infos.size())) + le(value_count.value_or(values.size()));
  for (const std::string& value : values) bytes += value;
  for (const Info& info : infos) bytes += info_bytes(info);
  bytes.resize((bytes.size() + 31) / 32 * 32);
  return bytes + data;
}

class Gguf : public ::testing::Test {
 protected:
  std::string read(const std::string& bytes) {
    test::put(folder_ / "f.gguf", bytes);
    return test::error_of([&] {
      const GgufFile file(folder_ / "f.gguf");
      for (const std::string& key : file.keys()) {  // every value can be decoded or is refused
        const GgufValue& value = *file.find(key);
        test::error_of([&] { file.text(key); });
        test::error_of([&] { file.number(key, -1e300, 1e300); });
        if (value.type == GgufType::kArray) test::error_of([&] { file.texts(key); });
        if (value.type == GgufType::kArray) test::error_of([&] { file.numbers(key); });
      }
      std::uint64_t sum = 0;
      for (const GgufTensor& tensor : file.tensors())
        for (const std::byte b : tensor.bytes) sum += static_cast<std::uint64_t>(b);
      EXPECT_LT(sum, std::uint64_t{1} << 40);
    });
  }
  void says(const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << "said: '" << message << "', expected: '" << part << "'";
  }
  test::TempFolder folder_;
};

const std::string kRow(128, '\x01');

TEST_F(Gguf, WritesWhatItReads) {
  GgufWriter writer;
  writer.add_u32("a.u32", 7);
  writer.add_f32("a.f32", 0.5);
  writer.add_bool("a.bool", true);
  writer.add_text("a.text", "hallo");
  writer.add_texts("a.texts", {"x", "", "yz"});
  writer.add_f32s("a.f32s", {1, 2});
  writer.add_i32s("a.i32s", {-1, 2});
  writer.add_bools("a.bools", {true, false});
  const auto bytes_of = [](std::size_t size, char fill) {
    return [=](Slices& slices) { slices.add(as_bytes(std::string(size, fill))); };
  };
  writer.add_tensor("first", Type::kF32, {3, 5}, bytes_of(60, 'a'));
  writer.add_tensor("second", Type::kQ4_0, {2, 64}, bytes_of(72, 'b'));
  writer.write(folder_ / "f.gguf");
  const GgufFile file(folder_ / "f.gguf");
  EXPECT_EQ(file.integer("a.u32", 0, 10), 7);
  EXPECT_EQ(file.number("a.f32", 0, 1), 0.5);
  EXPECT_TRUE(file.boolean("a.bool", false));
  EXPECT_EQ(file.text("a.text"), "hallo");
  EXPECT_EQ(file.texts("a.texts"), (std::vector<std::string>{"x", "", "yz"}));
  EXPECT_EQ(file.numbers("a.f32s"), (std::vector<double>{1, 2}));
  EXPECT_EQ(file.numbers("a.i32s"), (std::vector<double>{-1, 2}));
  EXPECT_EQ(file.numbers("a.bools"), (std::vector<double>{1, 0}));
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.tensors()[1].type, Type::kQ4_0);
  EXPECT_EQ(file.tensors()[1].shape, (std::vector<std::int64_t>{2, 64}));
  EXPECT_EQ(as_text(file.tensors()[0].bytes), std::string(60, 'a'));
  EXPECT_EQ(as_text(file.tensors()[1].bytes), std::string(72, 'b'));
  EXPECT_ERROR(file.integer("a.u32", 0, 6), "expected 0 to 6");
  EXPECT_ERROR(file.integer("a.text", 0, 6), "must be a whole number");
  EXPECT_ERROR(file.text("a.u32"), "must be a string");
  EXPECT_ERROR(file.text("absent"), "the key 'absent' is missing");
}

TEST_F(Gguf, AWriterThatIsGivenTooFewBytesLeavesNothing) {
  GgufWriter writer;
  writer.add_tensor("t", Type::kF32, {8}, [](Slices& slices) { slices.add(as_bytes("abcd")); });
  EXPECT_ERROR(writer.write(folder_ / "f.gguf"), "gave 4 bytes, expected 32");
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(Gguf, NamesWhatIsWrong) {
  const auto tensor = [&](const Info& info, const std::string& data = kRow) { return read(file_of({}, {info}, data)); };
  EXPECT_EQ(tensor({"t", {32}}), "no error");
  says(read(""), "the file is empty");
  says(read("GGML" + std::string(60, '\0')), "does not start with 'GGUF'");
  says(read("GGUF" + le(std::uint32_t{1}) + std::string(60, '\0')), "GGUF version 1");
  says(read("GGUF" + le(std::uint32_t{0x03000000}) + std::string(60, '\0')), "big-endian");
  // Counts.
  says(read(file_of({}, {}, "", UINT64_MAX)), "tensors cannot be in");
  says(read(file_of({}, {}, "", 0, UINT64_MAX)), "keys and 0 tensors cannot be in");
  says(read(file_of({}, {}, "", 0, std::uint64_t{1} << 60)), "cannot be in");
  // Key-values.
  const std::string value = u32_value("key", 1);
  says(read(file_of({value, value}, {}, "")), "the key 'key' occurs twice");
  says(read(file_of({u32_value("", 1)}, {}, "")), "has no name");
  says(read(file_of({text("k") + le(std::uint32_t{99}) + le(0)}, {}, "")), "unknown value type 99");
  says(read(file_of({le(UINT64_MAX) + "k"}, {}, kRow)), "is said to be");
  says(read(file_of({text("k") + le(std::uint32_t{8}) + le(UINT64_MAX - 8)}, {}, kRow)), "remain");
  says(read(file_of({text("k") + le(std::uint32_t{9}) + le(std::uint32_t{9}) + le(std::uint64_t{1})}, {}, kRow)),
       "arrays in an array");
  says(read(file_of({text("k") + le(std::uint32_t{9}) + le(std::uint32_t{12}) + le(std::uint64_t{1} << 61)}, {}, kRow)),
       "does not fit 64 bits");
  says(read(file_of({text("k") + le(std::uint32_t{9}) + le(std::uint32_t{0}) + le(std::uint64_t{1} << 50)}, {}, kRow)),
       "remain");
  says(read(file_of({text("k") + le(std::uint32_t{9}) + le(std::uint32_t{8}) + le(std::uint64_t{1} << 50)}, {}, kRow)),
       "strings");
  says(read(file_of({text("k") + le(std::uint32_t{9}) + le(std::uint32_t{8}) + le(std::uint64_t{1}) +
                     le(std::uint64_t{1} << 40)},
                    {}, kRow)),
       "remain");
  // Alignment.
  says(read(file_of({u32_value("general.alignment", 3)}, {}, "")), "expected a power of two");
  says(read(file_of({u32_value("general.alignment", 0)}, {}, "")), "general.alignment' is 0");
  says(read(file_of({u32_value("general.alignment", 1u << 31)}, {}, "")), "expected 1 to");
  says(read(file_of({text("general.alignment") + le(std::uint32_t{8}) + text("32")}, {}, "")),
       "must be a whole number");
  // Tensor infos.
  says(read(file_of({}, {{"t", {32}}, {"t", {32}, 0, 128}}, kRow + kRow)), "'t' occurs twice");
  says(tensor({std::string(64, 'n'), {32}}), "at most 63");
  says(tensor({"t", {}}), "has 0 dimensions");
  says(tensor({"t", {1, 1, 1, 1, 1}}), "has 5 dimensions");
  says(tensor({"t", {0}}), "dimension 0 is 0");
  says(tensor({"t", {std::uint64_t{1} << 63}}), "dimension 0 is");
  says(tensor({"t", {std::uint64_t{1} << 62, 4}}), "does not fit 64 bits");
  says(tensor({"t", {std::uint64_t{1} << 32, std::uint64_t{1} << 31, 2}}), "does not fit 64 bits");
  says(tensor({"t", {std::uint64_t{1} << 62, 1}}), "does not fit 64 bits");
  says(tensor({"t", {std::uint64_t{1} << 61, 1}}), "it is truncated");
  says(read(file_of({}, {{"t", {std::uint64_t{1} << 61}}, {"u", {std::uint64_t{1} << 61}, 0, std::uint64_t{1} << 63}},
                    kRow)),
       "does not fit 64 bits");  // the sum of the sizes
  says(read(file_of({}, {{"t", {(std::uint64_t{1} << 62) - 1}}}, kRow)), "does not fit 64 bits");  // the padding
  says(tensor({"t", {32}, 200}), "has the type 200");
  says(tensor({"t", {33}, 2}), "do not divide into q4_0 blocks of 32");
  says(tensor({"t", {128}, 12}), "do not divide into q4_k blocks of 256");
  says(tensor({"t", {32}, 0, 32}), "starts at 32, expected 0");
  says(read(file_of({}, {{"t", {32}}, {"u", {32}, 0, 64}}, kRow + kRow)), "starts at 64, expected 128");
  says(read(file_of({}, {{"t", {3}}, {"u", {32}, 0, 12}}, kRow + kRow)), "starts at 12, expected 32");
  says(tensor({"t", {64}}), "it is truncated");
  says(tensor({"t", {32, 1u << 20}}), "it is truncated");
}

class GgufModel : public Gguf {
 protected:
  GgufModel() {
    Checkpoint checkpoint =
        test::make_checkpoint(test::base_config("llama", {{"num_hidden_layers", 1}, {"vocab_size", 270}}));
    write_gguf(checkpoint, folder_ / "good.gguf");
    good_ = read_text_file(folder_ / "good.gguf");
    header_ = good_.size() - checkpoint.tensor_bytes();
  }
  std::string open(const std::string& bytes) {
    test::put(folder_ / "f.gguf", bytes);
    return test::error_of([&] {
      for (const Tensor& tensor : open_checkpoint(folder_ / "f.gguf").tensors) read_packed(tensor);
    });
  }
  // The file with other key-values: remove those named, then add these.
  std::string with(const std::string& removed, const std::function<void(GgufWriter&)>& add = {}) {
    const GgufFile file(folder_ / "good.gguf");
    GgufWriter writer;
    for (const std::string& key : file.keys()) {
      const GgufValue& value = *file.find(key);
      if (key == removed) continue;
      if (value.type == GgufType::kU32)
        writer.add_u32(key, static_cast<std::uint64_t>(file.integer(key, 0, UINT32_MAX)));
      if (value.type == GgufType::kF32) writer.add_f32(key, file.number(key, -1e30, 1e30));
      if (value.type == GgufType::kBool) writer.add_bool(key, file.boolean(key, false));
      if (value.type == GgufType::kString) writer.add_text(key, file.text(key));
      if (value.type == GgufType::kArray && value.element == GgufType::kString) writer.add_texts(key, file.texts(key));
      if (value.type == GgufType::kArray && value.element == GgufType::kF32) {
        const std::vector<double> numbers = file.numbers(key);
        writer.add_f32s(key, {numbers.begin(), numbers.end()});
      }
      if (value.type == GgufType::kArray && value.element == GgufType::kI32) {
        std::vector<std::int32_t> numbers;
        for (const double number : file.numbers(key)) numbers.push_back(static_cast<std::int32_t>(number));
        writer.add_i32s(key, numbers);
      }
    }
    if (add) add(writer);
    for (const GgufTensor& tensor : file.tensors())
      writer.add_tensor(tensor.name, tensor.type, tensor.shape,
                        [bytes = tensor.bytes](Slices& slices) { slices.add(bytes); });
    writer.write(folder_ / "changed.gguf");
    return test::error_of([&] { open_checkpoint(folder_ / "changed.gguf"); });
  }
  std::string good_;
  std::size_t header_ = 0;
};

TEST_F(GgufModel, EveryTruncationIsAnError) {
  ASSERT_EQ(open(good_), "no error");
  for (std::size_t size = 0; size < good_.size() - 32; size += size < 256 ? 1 : size < header_ ? 41 : 4999)
    EXPECT_NE(open(good_.substr(0, size)), "no error") << size;
}

TEST_F(GgufModel, FlippedBitsNeverReadOutside) {
  int errors = 0, opened = 0;
  for (std::size_t i = 0; i < header_; i += i < 1024 ? 2 : 61) {
    std::string bad = good_;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    (open(bad).empty() ? opened : errors) += 1;
  }
  EXPECT_GT(errors, 100) << opened;
}

TEST_F(GgufModel, KeysThatAModelCannotDoWithout) {
  EXPECT_EQ(with(""), "no error");
  for (const char* key :
       {"llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length",
        "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon", "general.architecture",
        "tokenizer.ggml.tokens", "tokenizer.ggml.scores"})
    says(with(key), cat("the key '", key, "' is missing"));
  const auto set = [&](const char* key, std::uint32_t value) {
    return with(key, [&](GgufWriter& w) { w.add_u32(key, value); });
  };
  says(set("llama.block_count", 0), "llama.block_count' is 0");
  says(set("llama.block_count", 2), "are missing");
  says(set("llama.block_count", UINT32_MAX), "expected 1 to");
  says(set("llama.embedding_length", 32), "has shape");
  says(set("llama.attention.head_count", 0), "head_count' is 0");
  says(set("llama.rope.dimension_count", 17), "expected 1 to 16");
  says(set("tokenizer.ggml.bos_token_id", 270), "the vocabulary has 270 tokens");
  says(with("tokenizer.ggml.model", [](GgufWriter& w) { w.add_text("tokenizer.ggml.model", "rwkv"); }),
       "'rwkv' is not supported");
  says(with("tokenizer.ggml.scores", [](GgufWriter& w) { w.add_f32s("tokenizer.ggml.scores", {1, 2}); }), "2 scores");
  says(with("tokenizer.ggml.token_type",
            [](GgufWriter& w) {
              w.add_i32s("tokenizer.ggml.token_type", {1, 2});
            }),
       "2 token types");
  says(with("tokenizer.ggml.token_type",
            [](GgufWriter& w) { w.add_i32s("tokenizer.ggml.token_type", std::vector<std::int32_t>(270, 9)); }),
       "unknown type 9");
  says(with("tokenizer.ggml.tokens",
            [](GgufWriter& w) { w.add_texts("tokenizer.ggml.tokens", std::vector<std::string>(271, "\xff")); }),
       "is not UTF-8");
  says(with("general.architecture", [](GgufWriter& w) { w.add_text("general.architecture", "qwen4"); }),
       "did you mean 'qwen");
  says(with("", [](GgufWriter& w) { w.add_text("llama.rope.scaling.type", "odd"); }), "'odd' is not known");
  says(with("", [](GgufWriter& w) { w.add_u32("split.count", 2); }), "one part of a split GGUF");
}

TEST_F(Gguf, ALyingLayerCountCostsNothing) {
  const auto string_value = [](const std::string& key, const std::string& value) {
    return text(key) + le(std::uint32_t{8}) + text(value);
  };
  for (const char* arch : {"gemma2", "gemma3", "llama"}) {
    test::put(folder_ / "f.gguf", file_of({string_value("general.architecture", arch),
                                           u32_value(std::string(arch) + ".block_count", UINT32_MAX)},
                                          {}, ""));
    EXPECT_ERROR(open_checkpoint(folder_ / "f.gguf"), "expected 1 to 1024");
  }
}

TEST_F(GgufModel, ATokenizerOfAnotherModel) {
  const auto tokens = [&](std::size_t count) {
    return with("tokenizer.ggml.tokens",
                [&](GgufWriter& w) { w.add_texts("tokenizer.ggml.tokens", std::vector<std::string>(count, "x")); });
  };
  says(tokens(269), "269 tokens, but 270");
}

// Llama's q and k rows: row 2 i + j of a head in the file is row j d/2 + i of Hugging Face's.
TEST(GgufTensors, RowsOfQAndKChangePlaces) {
  const ModelConfig config = parse_config(test::base_config("llama"), "synthetic");
  const std::int64_t d = config.head_dim, rows = config.kv_heads * d;
  std::vector<float> values(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  const Tensor canonical = make_tensor(name, {rows, 1}, values), stored = to_gguf(canonical, config);
  const std::vector<float> file = read_floats(stored);
  for (std::int64_t h = 0; h < config.kv_heads; ++h)
    for (std::int64_t i = 0; i < d / 2; ++i)
      for (std::int64_t j = 0; j < 2; ++j)
        EXPECT_EQ(file[static_cast<std::size_t>(h * d + 2 * i + j)], static_cast<float>(h * d + j * (d / 2) + i));
  EXPECT_EQ(read_floats(from_gguf(stored, config)), values);
  for (std::int64_t begin = 0; begin < rows; begin += 5)  // any slice, across heads too
    for (std::int64_t end = begin; end <= rows; end += 7)
      EXPECT_EQ(read_floats(stored, begin, end), std::vector<float>(file.begin() + begin, file.begin() + end));
  const Tensor bias = make_tensor("model.layers.0.self_attn.k_proj.bias", {rows}, values);
  EXPECT_EQ(read_floats(to_gguf(bias, config)), file);
  EXPECT_EQ(read_floats(from_gguf(to_gguf(bias, config), config)), values);
  const Tensor value_rows = make_tensor("model.layers.0.self_attn.v_proj.weight", {rows, 1}, values);
  EXPECT_EQ(read_floats(to_gguf(value_rows, config)), values);
}

TEST(GgufTensors, Llama3FactorsAreRecovered) {
  for (const std::int64_t head_dim : {32, 64, 128}) {
    for (const auto& [factor, low, high, original] :
         {std::tuple{32.0, 1.0, 4.0, 8192}, {8.0, 1.0, 4.0, 8192}, {16.0, 1.0, 8.0, 4096}}) {
      if (head_dim == 32 && original != 8192) continue;  // too few points to solve for it
      ModelConfig config;
      config.head_dim = head_dim;
      config.rope.type = RopeType::kLlama3;
      config.rope.theta = 500000.0;
      config.rope.factor = factor;
      config.rope.low_freq_factor = low;
      config.rope.high_freq_factor = high;
      config.rope.original_max_positions = original;
      const std::vector<float> factors = rope_frequency_factors(config);
      Rope rope;
      rope.theta = config.rope.theta;
      ASSERT_TRUE(recover_llama3({factors.begin(), factors.end()}, rope, head_dim)) << head_dim << " " << original;
      EXPECT_EQ(rope.factor, factor);
      EXPECT_EQ(rope.original_max_positions, original);
      EXPECT_EQ(rope.high_freq_factor, high);
    }
  }
  Rope rope;
  EXPECT_FALSE(recover_llama3({1, 2, 3, 4, 5}, rope, 10));
}

}  // namespace
}  // namespace attar
