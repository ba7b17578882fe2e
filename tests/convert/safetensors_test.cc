#include "convert/safetensors.h"

#include <unordered_set>

#include "tests/convert/bytes.h"

namespace attar {
namespace {

using test::le;
using test::put;

std::string file_of(const std::string& header, const std::string& data) {
  return le(static_cast<std::uint64_t>(header.size())) + header + data;
}

class Safetensors : public ::testing::Test {
 protected:
  std::string read(const std::string& bytes) {
    put(folder_ / "f.safetensors", bytes);
    return test::error_of([&] {
      const SafetensorsFile file = read_safetensors(folder_ / "f.safetensors");
      for (const Tensor& tensor : file.tensors) read_packed(tensor);
    });
  }
  test::TempFolder folder_;
};

const std::string kGood =
    R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"I64","shape":[1],"data_offsets":[24,32]}})";
const std::string kData(32, '\x01');

TEST_F(Safetensors, WritesWhatItReads) {
  const std::vector<Tensor> tensors = {make_tensor("w", {2, 3}, {1, -2, 3, 4.5f, 5, 6}),
                                       make_tensor("half", {4}, {1, 2, 3, 4}, Type::kF16),
                                       make_tensor("brain", {1, 2}, {0.5f, -8}, Type::kBF16),
                                       make_tensor("empty", {0, 3}, {}), make_tensor("scalar", {}, {7})};
  write_safetensors(folder_ / "x.safetensors", tensors, {{"format", "pt"}});
  const SafetensorsFile file = read_safetensors(folder_ / "x.safetensors");
  EXPECT_EQ(file.metadata.at("format"), "pt");
  ASSERT_EQ(file.tensors.size(), tensors.size());
  for (const Tensor& before : tensors) {
    const auto after =
        std::find_if(file.tensors.begin(), file.tensors.end(), [&](const Tensor& t) { return t.name == before.name; });
    ASSERT_NE(after, file.tensors.end()) << before.name;
    EXPECT_EQ(after->type, before.type);
    EXPECT_EQ(after->shape, before.shape);
    EXPECT_EQ(read_packed(*after).bytes, read_packed(before).bytes);
  }
  const std::string bytes = read_text_file(folder_ / "x.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  EXPECT_EQ(header % 8, 0u);
  write_safetensors(folder_ / "y.safetensors", tensors, {{"format", "pt"}});
  EXPECT_EQ(bytes, read_text_file(folder_ / "y.safetensors"));
}

TEST_F(Safetensors, ConvertsFloatsButNotIds) {
  QuantizedTensor ids{Type::kI64, {2}, Bytes(16)};
  write_safetensors(folder_ / "x.safetensors", {make_tensor("w", {2}, {1.5f, 2}), make_tensor("ids", ids)}, {},
                    Type::kF16);
  for (const Tensor& tensor : read_safetensors(folder_ / "x.safetensors").tensors)
    EXPECT_EQ(tensor.type, tensor.name == "w" ? Type::kF16 : Type::kI64);
}

TEST_F(Safetensors, ReadsInSlices) {
  put(folder_ / "f.safetensors", file_of(kGood, kData));
  const SafetensorsFile file = read_safetensors(folder_ / "f.safetensors");
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(read_floats(file.tensors[0], 1, 2).size(), 3u);
  EXPECT_ERROR(read_floats(file.tensors[0], 1, 3), "not within its 2 rows");
}

TEST_F(Safetensors, EveryTruncationIsAnError) {
  const std::string good = file_of(kGood, kData);
  ASSERT_EQ(read(good), "no error");
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_NE(read(good.substr(0, size)), "no error") << size;
}

// A flipped bit may make another well-formed file, but never one that reads outside itself (the sanitizers would tell).
TEST_F(Safetensors, FlippedBitsNeverReadOutside) {
  const std::string good = file_of(kGood, kData);
  int errors = 0;
  for (std::size_t i = 0; i < 8 + kGood.size(); ++i)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      errors += read(bad).empty() ? 0 : 1;
    }
  EXPECT_GT(errors, 800);
}

TEST_F(Safetensors, NamesWhatIsWrong) {
  const auto one = [&](const std::string& entry, const std::string& data = kData) {
    return read(file_of("{\"a\":" + entry + "}", data));
  };
  const auto says = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << "said: '" << message << "'";
  };
  says(read(""), "the file is empty");
  says(read(le(std::uint64_t{1} << 40) + "{}"), "header is said to be");
  says(read(le(UINT64_MAX) + "{}"), "header is said to be");
  says(read(file_of("[]", "")), "does not start with '{'");
  says(read(file_of("{\"a\"", "")), "not valid JSON");
  says(read(file_of("{\"a\":{},\"a\":{}}", "")), "occurs twice");
  says(read(file_of(R"({"__metadata__":{"a":1}})", "")), "must be a string");
  says(one(R"({"dtype":"F32","shape":[8],"data_offsets":[0,31]})"), "takes 32 bytes");
  says(one(R"({"dtype":"F32","shape":[8],"data_offsets":[32,0]})"), "takes 32 bytes");
  says(one(R"({"dtype":"F32","shape":[7],"data_offsets":[4,32]})"), "without holes");
  says(one(R"({"dtype":"F32","shape":[7],"data_offsets":[0,28]})"), "something else follows");
  says(one(R"({"dtype":"F32","shape":[8],"data_offsets":[0,32]})", ""), "truncated");
  says(one(R"({"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,32]})"), "does not fit 64 bits");
  says(one(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]})"), "does not fit 64 bits");
  says(one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,32]})"), "non-negative");
  says(one(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,32]})"), "non-negative");
  says(one(R"({"dtype":"F33","shape":[8],"data_offsets":[0,32]})"), "unknown dtype 'F33'");
  says(one(R"({"dtype":"U8","shape":[32],"data_offsets":[0,32]})"), "is not read here");
  says(one(R"({"shape":[8],"data_offsets":[0,32]})"), "'dtype' is missing");
  says(one(R"({"dtype":"F32","data_offsets":[0,32]})"), "'shape' must be");
  says(one(R"({"dtype":"F32","shape":[8],"data_offsets":[0]})"), "'data_offsets' must be");
  says(one("7"), "expected a JSON object");
  says(
      read(file_of(
          R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[6],"data_offsets":[8,32]}})",
          kData)),
      "without holes or overlap");
}

class Sharded : public Safetensors {
 protected:
  Sharded() {
    write_safetensors(folder_ / "one.safetensors", {make_tensor("a", {2}, {1, 2})});
    write_safetensors(folder_ / "two.safetensors", {make_tensor("b", {2}, {3, 4})});
  }
  std::string index(const std::string& map) {
    put(folder_ / "i.json", "{\"weight_map\":" + map + "}");
    return test::error_of([&] { EXPECT_EQ(read_sharded_safetensors(folder_ / "i.json").tensors.size(), 2u); });
  }
};

TEST_F(Sharded, ReadsAllAndRefusesTheRest) {
  const auto says = [](const std::string& message, const char* part) {
    EXPECT_NE(message.find(part), std::string::npos) << "said: '" << message << "'";
  };
  EXPECT_EQ(index(R"({"a":"one.safetensors","b":"two.safetensors"})"), "no error");
  says(index(R"({"a":"one.safetensors","b":"three.safetensors"})"), "three.safetensors is missing");
  says(index(R"({"a":"../one.safetensors","b":"two.safetensors"})"), "not a plain file name");
  says(index(R"({"a":"/etc/passwd","b":"two.safetensors"})"), "not a plain file name");
  says(index(R"({"a":"..","b":"two.safetensors"})"), "not a plain file name");
  says(index(R"({"a":"","b":"two.safetensors"})"), "not a plain file name");
  says(index(R"({"a":1})"), "must name a shard");
  says(index(R"({"a":"one.safetensors","b":"one.safetensors"})"), "is not in");
  says(index(R"({"a":"one.safetensors","c":"two.safetensors"})"), "which the index lacks");
  says(index("{}"), "names no tensor");
  says(index("[]"), "expected a JSON object");
  const test::TempFolder outside;
  write_safetensors(outside / "b.safetensors", {make_tensor("b", {2}, {3, 4})});
  fs::create_symlink(outside / "b.safetensors", folder_ / "link.safetensors");
  says(index(R"({"a":"one.safetensors","b":"link.safetensors"})"), "link out of the folder");
  fs::create_symlink("two.safetensors", folder_ / "inside.safetensors");
  EXPECT_EQ(index(R"({"a":"one.safetensors","b":"inside.safetensors"})"), "no error");
}

TEST_F(Safetensors, RefusesToWriteTwoOfOneName) {
  const Tensor tensor = make_tensor("a", {1}, {1});
  EXPECT_ERROR(write_safetensors(folder_ / "x.safetensors", {tensor, tensor}), "two tensors are named 'a'");
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

}  // namespace
}  // namespace attar
