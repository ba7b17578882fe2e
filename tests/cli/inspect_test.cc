#include "base/files.h"
#include "convert/checkpoint.h"
#include "tests/convert/synthetic.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;

class Inspect : public ::testing::Test {
 protected:
  Inspect() { write_hf(test::make_checkpoint(test::base_config("llama"), Type::kBF16), folder_ / "model"); }
  std::string model() const { return (folder_ / "model").string(); }
  test::TempFolder folder_;
};

TEST_F(Inspect, SaysWhatTheModelIs) {
  const test::RunResult result =
      run_attar("inspect " + model() + " --tensors --hash --json " + (folder_ / "r.json").string());
  ASSERT_EQ(result.code, 0) << result.output;
  for (const char* part : {"llama, 3 layers, hidden 64", "4 heads of 16", "SentencePiece, 264 tokens", "bf16",
                           "bits/weight", "model.layers.2.mlp.down_proj.weight", "hash        "})
    EXPECT_NE(result.output.find(part), std::string::npos) << part << "\n" << result.output;
  const nlohmann::json json = nlohmann::json::parse(read_text_file(folder_ / "r.json"));
  const Checkpoint checkpoint = open_checkpoint(folder_ / "model");
  EXPECT_EQ(json["parameters"], checkpoint.parameter_count());
  EXPECT_EQ(json["tensor_bytes"], checkpoint.tensor_bytes());
  EXPECT_EQ(json["hash"], checkpoint_hash(checkpoint));
  EXPECT_EQ(json["tensors"].size(), checkpoint.tensors.size());
  EXPECT_EQ(json["types"]["bf16"]["bits_per_weight"], 16.0);
  EXPECT_EQ(json["command"], "inspect");
}

TEST_F(Inspect, BadInputIsTwo) {
  write_text_file(folder_ / "short.gguf", "GGUF");
  for (const std::string& what :
       {(folder_ / "absent").string(), (folder_ / "short.gguf").string(), folder_.path().string()}) {
    const test::RunResult result = run_attar("inspect " + what);
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_EQ(result.output.rfind("attar: ", 0), 0u) << result.output;
  }
  EXPECT_EQ(run_attar("inspect").code, 2);
}

}  // namespace
}  // namespace attar
