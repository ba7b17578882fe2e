#include <cmath>
#include <cstring>

#include "base/files.h"
#include "convert/safetensors.h"
#include "tests/cli/random_model.h"
#include "tests/support.h"

namespace attar {
namespace {

Tensor ids_tensor(std::vector<std::int64_t> ids, Shape shape, const std::string& name = "input_ids") {
  QuantizedTensor data{Type::kI64, std::move(shape), Bytes(ids.size() * sizeof(std::int64_t))};
  std::memcpy(data.bytes.data(), ids.data(), data.bytes.size());
  return make_tensor(name, std::move(data));
}

class LogitsCommand : public testing::Test {
 protected:
  void SetUp() override { write_hf(test::random_model(), folder_ / "model"); }
  test::RunResult run(const Tensor& ids, const std::string& more = "") {
    write_safetensors(folder_ / "ids.safetensors", {ids});
    return test::run_attar("logits " + (folder_ / "model").string() + " --ids " + (folder_ / "ids.safetensors").string() +
                           " -o " + output_.string() + " " + more);
  }
  test::TempFolder folder_;
  fs::path output_ = folder_ / "out.safetensors";
};

TEST_F(LogitsCommand, WritesLogitsOfEveryRow) {
  const test::RunResult result = run(ids_tensor({5, 6, 7, 256, 0, 9}, {2, 3}), "--json " + (folder_ / "r.json").string());
  ASSERT_EQ(result.code, 0) << result.output;
  const SafetensorsFile file = read_safetensors(output_);
  ASSERT_EQ(file.tensors.size(), 1u);
  EXPECT_EQ(file.tensors[0].name, "logits");
  EXPECT_EQ(file.tensors[0].type, Type::kF32);
  EXPECT_EQ(file.tensors[0].shape, (Shape{2, 3, test::kRandomVocab}));
  const std::vector<float> both = read_floats(file.tensors[0]);
  // A row alone gives the same.
  ASSERT_EQ(run(ids_tensor({256, 0, 9}, {1, 3})).code, 0);
  const std::vector<float> second = read_floats(read_safetensors(output_).tensors[0]);
  for (std::size_t i = 0; i < second.size(); ++i) EXPECT_EQ(second[i], both[both.size() / 2 + i]);
  const auto json = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  EXPECT_EQ(json["shape"], (nlohmann::json{2, 3, test::kRandomVocab}));
}

TEST_F(LogitsCommand, RefusesBadIdsAndLeavesNothing) {
  const auto expect_refused = [&](const Tensor& ids, const std::string& words) {
    const test::RunResult result = run(ids);
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_NE(result.output.find(words), std::string::npos) << result.output;
    EXPECT_FALSE(fs::exists(output_));
  };
  expect_refused(ids_tensor({5, 257}, {1, 2}), "token id 257 is outside the vocabulary of 257");
  expect_refused(ids_tensor({-1, 5}, {1, 2}), "token id -1");
  expect_refused(ids_tensor({5, 6}, {2}), "expected i64 (batch, time)");
  expect_refused(ids_tensor({5, 6}, {1, 2}, "ids"), "expected a tensor 'input_ids'");
  expect_refused(make_tensor("input_ids", {1, 2}, {5.0f, 6.0f}), "f32 (1, 2)");
}

TEST_F(LogitsCommand, RefusesAnOutputThatCannotBeWritten) {
  output_ = folder_ / "missing" / "out.safetensors";
  EXPECT_EQ(run(ids_tensor({5, 6}, {1, 2})).code, 2);
}

TEST_F(LogitsCommand, PackedWeightsOnTheKernels) {
  const fs::path packed = folder_ / "m.gguf", ids = folder_ / "ids.safetensors";
  ASSERT_EQ(test::run_attar("quantize " + (folder_ / "model").string() + " -o " + packed.string() + " --type q8_0 --quiet").code, 0);
  write_safetensors(ids, {ids_tensor({5, 6, 7, 8, 0, 9}, {2, 3})});
  const auto logits = [&](const std::string& more) {
    const test::RunResult result = test::run_attar("logits " + packed.string() + " --ids " + ids.string() + " -o " + output_.string() + more);
    EXPECT_EQ(result.code, 0) << result.output;
    return read_floats(read_safetensors(output_).tensors[0]);
  };
  const std::vector<float> floats = logits(" --float"), integers = logits("");
  ASSERT_EQ(floats.size(), integers.size());
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < floats.size(); ++i) difference += std::pow(floats[i] - integers[i], 2), size += std::pow(floats[i], 2);
  EXPECT_LT(std::sqrt(difference / size), 0.05);
  EXPECT_GT(std::sqrt(difference / size), 1e-6) << "not through the integer kernels";
}

TEST(LogitsOracle, TheCommandGivesTransformersLogits) {
  for (const char* name : {"llama", "smollm", "llama3", "qwen2", "qwen3", "mistral", "mistral-swa", "phi3", "gemma2", "gemma3"}) {
    SCOPED_TRACE(name);
    const fs::path oracle = test::shared("oracles") / name;
    SKIP_WITHOUT(oracle);
    const test::TempFolder folder;
    const fs::path expected_file = oracle / "expected_logits.safetensors", output = folder / "out.safetensors";
    const test::RunResult result =
        test::run_attar("logits " + oracle.string() + " --ids " + expected_file.string() + " -o " + output.string());
    ASSERT_EQ(result.code, 0) << result.output;
    const std::vector<float> got = read_floats(read_safetensors(output).tensors[0]);
    const SafetensorsFile file = read_safetensors(expected_file);
    for (const Tensor& tensor : file.tensors) {
      if (tensor.name != "logits") continue;
      const std::vector<float> expected = read_floats(tensor);
      ASSERT_EQ(got.size(), expected.size());
      double worst = 0;
      for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(double{got[i]} - expected[i]));
      EXPECT_LE(worst, 2e-4);
    }
  }
}

}  // namespace
}  // namespace attar
