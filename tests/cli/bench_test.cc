#include "base/files.h"
#include "tests/cli/random_model.h"
#include "tests/support.h"

namespace attar {
namespace {

TEST(BenchCommand, MeasuresFloatAndPackedModels) {
  const test::TempFolder folder;
  write_hf(test::random_model(), folder / "model");
  write_gguf(test::random_model(Type::kQ8_0), folder / "model.gguf");
  double bytes[2];
  for (const bool packed : {false, true}) {
    const std::string model = (folder / (packed ? "model.gguf" : "model")).string();
    const test::RunResult result =
        test::run_attar("bench " + model + " --prompt 16 --decode 4 --json " + (folder / "r.json").string());
    ASSERT_EQ(result.code, 0) << result.output;
    const auto json = nlohmann::json::parse(read_text_file(folder / "r.json"));
    EXPECT_GT(json["prompt"]["tokens_per_second"].get<double>(), 0.0);
    EXPECT_GT(json["decode"]["tokens_per_second"].get<double>(), 0.0);
    EXPECT_EQ(json["prompt"]["tokens"], 16);
    EXPECT_EQ(json["decode"]["tokens"], 4);
    EXPECT_EQ(json["kernels"], packed);
    EXPECT_EQ(json["prompt_tokens_per_second"], json["prompt"]["tokens_per_second"]);
    EXPECT_EQ(json["decode_tokens_per_second"], json["decode"]["tokens_per_second"]);
    if (packed) {
      EXPECT_GT(json["bytes_per_token"]["weights"].get<double>(), 0.0);
      EXPECT_NEAR(json["bandwidth_share"].get<double>(),
                  1.0 / json["decode"]["median_token_seconds"].get<double>() / json["read_bandwidth"].get<double>() *
                      (json["bytes_per_token"]["weights"].get<double>() + json["bytes_per_token"]["cache"].get<double>()),
                  1e-6);
    }
    bytes[packed] = json["weight_bytes"];
    EXPECT_NE(result.output.find("tokens/s"), std::string::npos);
  }
  EXPECT_LT(bytes[1], 0.35 * bytes[0]);
  const std::string half = "bench " + (folder / "model.gguf").string() + " --prompt 16 --decode 4 --kv-cache ";
  EXPECT_EQ(test::run_attar(half + "q4_0").code, 2);
  for (const std::string& without : {"bench " + (folder / "model").string(), "bench " + (folder / "model.gguf").string() + " --float", std::string("bench")}) {
    const test::RunResult refused = test::run_attar(without + " --kv-cache q8_0");
    EXPECT_EQ(refused.code, 2) << without;
    EXPECT_HAS(refused.output, "--kv-cache is for quantized models");
  }
  const test::RunResult wrong = test::run_attar("bench " + (folder / "model.gguf").string() + " --svg x.svg");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_HAS(wrong.output, "leave the model out");
  EXPECT_EQ(test::run_attar("bench " + (folder / "model").string() + " --decode 0").code, 2);
}

TEST(BenchCommand, KernelsOfEveryTypeAndVariant) {
  const test::TempFolder folder;
  const std::string json_path = (folder / "r.json").string();
  const std::string svg_path = (folder / "roof.svg").string();
  const test::RunResult result = test::run_attar("bench --threads 1 --json " + json_path + " --svg " + svg_path);
  ASSERT_EQ(result.code, 0) << result.output;
  const auto json = nlohmann::json::parse(read_text_file(json_path));
  EXPECT_EQ(json["kernels"].size(), 12u);
  for (const auto& row : json["kernels"]) {
    EXPECT_GT(row["bytes_per_second"].get<double>(), 0.0);
    EXPECT_GT(row["multiplications_per_second"].get<double>(), 0.0);
    EXPECT_HAS(result.output, row["type"].get<std::string>());
    EXPECT_DOUBLE_EQ(row["bandwidth_share"].get<double>(), row["bytes_per_second"].get<double>() / row["read_bandwidth"].get<double>());
    EXPECT_DOUBLE_EQ(row["peak_share"].get<double>(), row["multiplications_per_second"].get<double>() / json["product_peak"].get<double>());
    EXPECT_HAS(read_text_file(svg_path), "<title>" + row["type"].get<std::string>() + ": ");
  }
  EXPECT_TRUE(read_text_file(svg_path).starts_with("<svg "));
  EXPECT_EQ(read_text_file(svg_path).find("var(--"), std::string::npos);
  EXPECT_EQ(test::run_shell("ATTAR_KERNELS=sse9 $ATTAR_PROGRAM bench --threads 1 2>&1").code, 2);
}

}  // namespace
}  // namespace attar
