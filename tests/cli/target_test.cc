// attar quantize with types chosen for a size, for bits per weight, for a divergence, for a runtime.
#include <algorithm>
#include <regex>
#include <utility>
#include <vector>

#include "base/text.h"
#include "tests/cli/quantize_command.h"

namespace attar {
namespace {

class Target : public test::QuantizeCommand {
 protected:
  std::string text_ = " --calibration builtin:calibration --samples 8 --context 64 --json " + (folder_ / "r.json").string();
  fs::path packed_ = folder_ / "out_folder";

  nlohmann::json report() const { return nlohmann::json::parse(read_text_file(folder_ / "r.json")); }
  static std::uint64_t bytes_of(const fs::path& output) {
    if (!fs::is_directory(output)) return fs::file_size(output);
    std::uint64_t bytes = 0;
    for (const auto& file : fs::directory_iterator(output)) bytes += file.file_size();
    return bytes;
  }
  // Of the matrices, as they are stored.
  static double bits_per_weight(const fs::path& output) {
    double bytes = 0, weights = 0;
    for (const Tensor& tensor : open_checkpoint(output).tensors)
      if (tensor.shape.size() >= 2) bytes += static_cast<double>(tensor.bytes()), weights += static_cast<double>(element_count(tensor.shape));
    return 8 * bytes / weights;
  }
  static nlohmann::json chosen(const nlohmann::json& list) {
    const auto found = std::find_if(list.begin(), list.end(), [](const auto& one) { return one["chosen"] == true; });
    EXPECT_NE(found, list.end());
    return *found;
  }
};

TEST_F(Target, SizeIsKeptAndUsed) {
  // A folder's tokenizer.json alone takes 23 kB more.
  for (const auto& [output, targets] : {std::pair(output_, std::vector<std::uint64_t>{85'000, 100'000}), {packed_, {85'000, 110'000}}})
    for (const std::uint64_t target : targets) {
      const test::RunResult result = run_on(model_, output, cat("--target-size ", target, text_));
      ASSERT_EQ(result.code, 0) << result.output;
      EXPECT_LE(bytes_of(output), target);
      EXPECT_GE(bytes_of(output), target - 4000) << "bytes left unused";
      const auto json = report();
      for (const auto& tensor : json["tensors"]) EXPECT_EQ(tensor["type"], tensor["type_asked"]) << tensor.dump();
      const auto point = chosen(json["allocation"]["curve"]);
      EXPECT_EQ(point["bytes"], bytes_of(output)) << "known before anything is written";
      EXPECT_HAS(result.output, cat("\n", std::string(13 - std::to_string(bytes_of(output)).size(), ' '), bytes_of(output), "  "));
      EXPECT_NEAR(point["bits_per_weight"].get<double>(), bits_per_weight(output), 1e-9);
    }
}

// int types are stored with an offset for each group, as MLX wants them, whole rows with a scale for each 32 to 128 weights.
TEST_F(Target, BytesAreThoseOfTheFolder) {
  for (const char* target : {"--target-size 100000", "--target-bpw 5.2"}) {
    const test::RunResult result = run_on(model_, packed_, cat(target, " --types int2_g32,int4_g32,affine4_row,int8_row,f16 --method rtn", text_));
    ASSERT_EQ(result.code, 0) << result.output;
    const auto point = chosen(report()["allocation"]["curve"]);
    EXPECT_EQ(point["bytes"], bytes_of(packed_));
    EXPECT_NEAR(point["bits_per_weight"].get<double>(), bits_per_weight(packed_), 1e-9);
    EXPECT_EQ(result.output.find("\nint"), std::string::npos) << "a row of the summary for what is not stored: " << result.output;
  }
  EXPECT_LE(bits_per_weight(packed_), 5.2);
  EXPECT_GE(bits_per_weight(packed_), 5.0);
}

TEST_F(Target, BitsPerWeightAreKeptAndUsed) {
  const test::RunResult result = run("--target-bpw 5 --types q4_0,q8_0" + text_);
  ASSERT_EQ(result.code, 0) << result.output;
  for (const Tensor& tensor : open_checkpoint(output_).tensors)
    EXPECT_TRUE(tensor.shape.size() < 2 || tensor.type == Type::kQ4_0 || tensor.type == Type::kQ8_0) << tensor.name;
  EXPECT_LE(bits_per_weight(output_), 5.0);
  EXPECT_GE(bits_per_weight(output_), 4.8);
}

TEST_F(Target, WhatIsOverriddenCountsForTheTarget) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64 --override lm_head=f16 --target-size ";
  expect_refused(text + "80000", "need at least");
  const test::RunResult result = run(text + "100000");
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(open_checkpoint(output_).at("lm_head.weight").type, Type::kF16);
  EXPECT_LE(fs::file_size(output_), 100'000u);
  EXPECT_GE(fs::file_size(output_), 96'000u) << "bytes left unused";
}

TEST_F(Target, TargetsThatCannotBeAreRefused) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64";
  expect_refused("--target-bpw 1.5" + text, "--target-bpw 1.5: the types allowed need at least");
  for (const fs::path& output : {output_, packed_})
    for (const char* size : {"40000", "3000"}) {  // says the smallest, and before anything is measured
      const test::RunResult refused = run_on(model_, output, cat("--target-size ", size, text));
      std::smatch found;
      ASSERT_TRUE(std::regex_search(refused.output, found, std::regex("need at least (\\d+) bytes"))) << refused.output;
      EXPECT_EQ(refused.code, 2);
      EXPECT_EQ(refused.output.find("sensitivity"), std::string::npos) << refused.output;
      EXPECT_EQ(run_on(model_, output, cat("--target-size ", found[1].str(), text)).code, 0);
      EXPECT_EQ(std::to_string(bytes_of(output)), found[1].str());
      fs::remove_all(output);
      EXPECT_EQ(run_on(model_, output, cat("--target-size ", std::stoull(found[1].str()) - 1, text)).code, 2);
      expect_nothing_written();
    }
  expect_refused("--target-size 9Mb" + text, "expected bytes, such as");
  expect_refused("--target-size 9MB", "needs text; give --calibration");
  expect_refused("--target-size 9MB --type q4_0" + text, "not both");
  expect_refused("--target-bpw 5 --types q4_0,q9_0" + text, "unknown type");
  expect_refused("--target-bpw 5 --types q4_k" + text, "none of the types given fits");
  expect_refused("", "give --type, or --target-size");
}

TEST_F(Target, DivergenceIsMeasuredOnTextKeptAside) {
  const std::string sensitivities = (folder_ / "s.json").string(), report = (folder_ / "r.json").string();
  const std::string text = " --calibration builtin:calibration --samples 16 --context 64 --json " + report + " --sensitivities " + sensitivities;
  test::RunResult result = run("--target-kld 0.01" + text);
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_NE(result.output.find("  chosen"), std::string::npos) << result.output;
  auto allocation = nlohmann::json::parse(read_text_file(report))["allocation"];
  EXPECT_GE(allocation["chunks_kept_aside"], 100);
  EXPECT_LE(allocation["chunks_kept_aside"], 128);
  const auto trial = chosen(allocation["trials"]), point = chosen(allocation["curve"]);
  EXPECT_LE(trial["measured_kl"], 0.01);
  EXPECT_GT(trial["uncertainty"], 0.0);
  EXPECT_EQ(trial["bytes"], point["bytes"]);
  EXPECT_GE(allocation["curve"].size(), 8u);
  EXPECT_EQ(point["bytes"], fs::file_size(output_));
  // attar eval, on other text, agrees with what was measured.
  const auto evaluated = test::run_attar("eval " + output_.string() + " --reference " + model_.string() +
                                         " --data builtin:heldout --context 64 --chunks 64 --cloze-items 0 --json " + report);
  ASSERT_EQ(evaluated.code, 0) << evaluated.output;
  EXPECT_NEAR(nlohmann::json::parse(read_text_file(report))["kl_divergence"]["mean"].get<double>(), trial["measured_kl"].get<double>(),
              0.3 * trial["measured_kl"].get<double>());
  // A second run reads the sensitivities, and gives the same bytes at another number of threads.
  const std::string once = read_text_file(output_);
  result = run("--target-kld 0.01 --threads 1" + text);
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(result.output.find("sensitivity"), std::string::npos) << result.output;
  EXPECT_EQ(once, read_text_file(output_));
  ASSERT_EQ(run("--target-kld 0.04" + text).code, 0);
  EXPECT_LT(read_text_file(output_).size(), once.size());
  fs::remove(output_);
  expect_refused("--target-kld 1e-9" + text, "is out of reach: the best of the types allowed measure");
  expect_refused("--target-kld 0.01 --seed 1" + text, "is of other calibration text, or the same in the order of another --seed");
  expect_refused("--target-kld 0.01 --context 32 --calibration builtin:calibration --sensitivities " + sensitivities, "chunks of another --context");
  expect_refused("--target-kld 0.01 --types f16" + text, "has no figure for model.embed_tokens.weight in f16");
  EXPECT_FALSE(fs::exists(output_.string() + ".trying"));
}

TEST_F(Target, DivergenceOfAFolder) {
  ASSERT_EQ(run_on(model_, packed_, "--target-kld 0.02 --method gptq --types affine4_g32,affine6_g32,affine8_g32" + text_).code, 0);
  const auto allocation = report()["allocation"];
  const auto trial = chosen(allocation["trials"]);
  EXPECT_LE(trial["measured_kl"], 0.02);
  EXPECT_EQ(trial["bytes"], bytes_of(packed_));
  const auto evaluated = test::run_attar("eval " + packed_.string() + " --reference " + model_.string() +
                                         " --data builtin:heldout --context 64 --chunks 64 --cloze-items 0 --json " + (folder_ / "r.json").string());
  ASSERT_EQ(evaluated.code, 0) << evaluated.output;
  EXPECT_NEAR(report()["kl_divergence"]["mean"].get<double>(), trial["measured_kl"].get<double>(), 0.3 * trial["measured_kl"].get<double>());
}

TEST_F(Target, RuntimesAllowWhatTheyRunFast) {
  const std::string text = " --calibration builtin:calibration --samples 8 --context 64";
  const test::RunResult result = run("--target-bpw 6 --runtime kleidiai" + text);
  ASSERT_EQ(result.code, 0) << result.output;
  for (const Tensor& tensor : open_checkpoint(output_).tensors)
    EXPECT_TRUE(tensor.shape.size() < 2 || tensor.type == Type::kQ4_0 || tensor.type == Type::kQ8_0) << tensor.name;
  for (const auto& [runtime, affine] : {std::pair("mlx", true), {"ort", false}}) {
    const test::RunResult folder = run_on(model_, packed_, cat("--target-size 100kB --runtime ", runtime, text_));
    ASSERT_EQ(folder.code, 0) << folder.output;
    EXPECT_LE(bytes_of(packed_), 100'000u);
    for (const auto& tensor : report()["tensors"]) EXPECT_EQ(tensor["type"].get<std::string>().starts_with("affine"), affine) << tensor.dump();
  }
  fs::remove_all(packed_);
  EXPECT_EQ(run("--type q4_0 --pure --runtime hexagon").code, 0);
  fs::remove(output_);
  expect_refused("--type q5_0 --runtime kleidiai", "which kleidiai is not fast with; it is with q4_0,q8_0");
  expect_refused("--type q4_0 --override ffn_up=q4_1 --runtime llama.cpp-arm", "mlp.up_proj.weight is to be q4_1");
  expect_refused("--type q4_0 --runtime kleidi", "did you mean 'kleidiai'");
  expect_refused("--type q4_0 --runtime mlx", "--runtime mlx takes a folder");
  expect_refused("--target-bpw 6 --runtime kleidiai --types q4_0" + text, "excludes");
  expect_refused("--type q4_0 --types q4_0", "--types is what a target chooses from");
  expect_refused("--type q4_0 --sensitivities s.json", "--sensitivities is for a target");
}

}  // namespace
}  // namespace attar
