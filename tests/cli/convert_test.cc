#include "base/files.h"
#include "convert/checkpoint.h"
#include "tests/convert/synthetic.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;

class Convert : public ::testing::Test {
 protected:
  Convert() {
    made_ = test::make_checkpoint(test::base_config("qwen3"), Type::kBF16);
    write_hf(made_, folder_ / "hf");
  }
  test::RunResult convert(const std::string& from, const std::string& to, const std::string& more = "") {
    return run_attar("convert " + (folder_ / from).string() + " -o " + (folder_ / to).string() + " " + more);
  }
  void expect_same(const std::string& name) {
    const Checkpoint other = open_checkpoint(folder_ / name);
    ASSERT_EQ(other.tensors.size(), made_.tensors.size());
    for (std::size_t i = 0; i < made_.tensors.size(); ++i)
      EXPECT_EQ(read_floats(other.tensors[i]), read_floats(made_.tensors[i]));
  }
  test::TempFolder folder_;
  Checkpoint made_;
};

TEST_F(Convert, ThereAndBack) {
  const test::RunResult there = convert("hf", "m.gguf", "--name tiny");
  ASSERT_EQ(there.code, 0) << there.output;
  expect_same("m.gguf");
  EXPECT_EQ(open_checkpoint(folder_ / "m.gguf").metadata["general.name"], "tiny");
  const test::RunResult back = convert("m.gguf", "again", "--json " + (folder_ / "r.json").string());
  ASSERT_EQ(back.code, 0) << back.output;
  expect_same("again");
  EXPECT_EQ(nlohmann::json::parse(read_text_file(folder_ / "r.json"))["format"], "hf");
  EXPECT_EQ(convert("hf", "half.gguf", "--type f16 --to gguf").code, 0);
  EXPECT_EQ(open_checkpoint(folder_ / "half.gguf").tensors[0].type, Type::kF16);
  EXPECT_EQ(open_checkpoint(folder_ / "half.gguf").metadata["general.file_type"], 1);
}

TEST_F(Convert, DecodingIsSaidAndStrictRefusesIt) {
  for (Tensor& tensor : made_.tensors)
    if (tensor.shape.size() == 2) tensor = make_tensor(tensor.name, tensor.shape, read_floats(tensor), Type::kQ8_0);
  write_gguf(made_, folder_ / "packed.gguf", {{}, 7, ""});
  const test::RunResult refused = convert("packed.gguf", "hf2", "--strict");
  EXPECT_EQ(refused.code, 2);
  EXPECT_FALSE(fs::exists(folder_ / "hf2"));
  const test::RunResult result = convert("packed.gguf", "hf2");
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_NE(result.output.find("packed tensors become f32"), std::string::npos) << result.output;
  expect_same("hf2");
  ASSERT_EQ(convert("packed.gguf", "copy.gguf").code, 0);
  EXPECT_EQ(open_checkpoint(folder_ / "copy.gguf").metadata["general.file_type"], 7);
}

TEST_F(Convert, BadInputIsTwoAndLeavesNothing) {
  const auto bad = [&](const test::RunResult& result, const char* part) {
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_NE(result.output.find(part), std::string::npos) << result.output;
  };
  bad(convert("hf", "m.gguf", "--type f17"), "did you mean 'f1");
  bad(convert("hf", "m.gguf", "--type q4_0"), "attar quantize makes the packed ones");
  bad(convert("hf", "m.gguf", "--to ggml"), "did you mean 'gguf'?");
  bad(convert("absent", "m.gguf"), "does not exist");
  bad(convert("hf", "no/such/m.gguf"), "cannot write");
  bad(convert("hf", "m.gguf", "--tipe f16"), "did you mean '--type'?");
  EXPECT_EQ(run_attar("convert " + (folder_ / "hf").string()).code, 2);
  EXPECT_FALSE(fs::exists(folder_ / "m.gguf"));
}

TEST_F(Convert, AFullDiskIsTwoAndLeavesNothing) {
  const std::string command = "convert " + (folder_ / "hf").string() + " -o " + (folder_ / "m.gguf").string();
  const char* program = std::getenv("ATTAR_PROGRAM");
  ASSERT_NE(program, nullptr);
  const std::string shell =
      "sh -c 'trap \"\" XFSZ; ulimit -f 40; " + std::string(program) + " " + command + "'";  // blocks of 512 bytes
  const int status = std::system((shell + " 2>/dev/null").c_str());
  EXPECT_EQ(WEXITSTATUS(status), 2);
  for (const auto& entry : fs::directory_iterator(folder_.path())) EXPECT_EQ(entry.path().filename(), "hf");
}

}  // namespace
}  // namespace attar
