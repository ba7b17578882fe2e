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
    bytes[packed] = json["weight_bytes"];
    EXPECT_NE(result.output.find("tokens/s"), std::string::npos);
  }
  EXPECT_LT(bytes[1], 0.35 * bytes[0]);
  EXPECT_EQ(test::run_attar("bench " + (folder / "model").string() + " --decode 0").code, 2);
}

}  // namespace
}  // namespace attar
