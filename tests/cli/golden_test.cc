#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "convert/safetensors.h"
#include "kernels_ref/dot.h"
#include "runtime/kv_cache.h"
#include "runtime/runner.h"
#include "tests/cli/random_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::run_attar;
using test::RunResult;

// Made beside the tests of this build; see tests/CMakeLists.txt.
std::string library(const std::string& name) {
  const char* program = std::getenv("ATTAR_PROGRAM");
  return (fs::path(program != nullptr ? program : "./attar").parent_path() / "tests" / ("lib" + name + ".so")).string();
}

// The path of a library that this process has loaded.
std::string loaded_library(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find("/" + name) != std::string::npos) return line.substr(line.find('/'));
  return name;
}

std::map<std::string, Tensor> tensors_of(const fs::path& file) {
  std::map<std::string, Tensor> tensors;
  for (const Tensor& tensor : read_safetensors(file).tensors) tensors[tensor.name] = tensor;
  return tensors;
}

class Golden : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TempFolder;
    write_gguf(test::random_model(Type::kQ8_0), *folder_ / "model.gguf");
    made_ = run_attar("golden " + (*folder_ / "model.gguf").string() + " -o " + directory().string() + " --seed 3");
  }
  static void TearDownTestSuite() { delete folder_; }
  void SetUp() override { ASSERT_EQ(made_.code, 0) << made_.output; }

  static fs::path directory() { return *folder_ / "golden"; }
  static RunResult check(const std::string& more = "", const std::string& environment = "") {
    const char* program = std::getenv("ATTAR_PROGRAM");
    return test::run_shell(environment + " " + (program != nullptr ? program : "./attar") + " golden --check " +
                           directory().string() + " " + more + " 2>&1");
  }
  static RunResult check_broken(const std::string& mistake, const std::string& more = "") {
    return check("--with " + library("broken_kernels") + " " + more, "ATTAR_BREAK=" + mistake);
  }

  static test::TempFolder* folder_;
  static RunResult made_;
};
test::TempFolder* Golden::folder_ = nullptr;
RunResult Golden::made_;

TEST_F(Golden, OwnKernelsAndTheLibraryPass) {
  const RunResult own = check();
  EXPECT_EQ(own.code, 0) << own.output;
  EXPECT_HAS(own.output, "values as they should be");
  for (const std::string variant : {"reference", ""}) {
    const RunResult result = check("--strict --with " + library("whole_kernels"), "ATTAR_KERNELS=" + variant);
    EXPECT_EQ(result.code, 0) << result.output;
  }
}

TEST_F(Golden, NamesTheFirstDifference) {
  EXPECT_EQ(check_broken("nothing").code, 0);
  const RunResult decode = check_broken("decode", "--json " + (*folder_ / "r.json").string());
  EXPECT_EQ(decode.code, 1) << decode.output;
  EXPECT_HAS(decode.output, "1 functions and tensors differ");
  EXPECT_HAS(decode.output, "attar_decode_row, type q4_0: tensor q4_0.values, row 0, column 5: expected ");
  const auto json = nlohmann::json::parse(read_text_file(*folder_ / "r.json"));
  ASSERT_EQ(json["differences"].size(), 1u);
  EXPECT_EQ(json["differences"][0]["row"], 0);
  EXPECT_EQ(json["differences"][0]["column"], 5);
  EXPECT_NEAR(json["differences"][0]["got"].get<double>() - json["differences"][0]["expected"].get<double>(), 1, 1e-3);

  // One wrong code in row 6, which every product but that of the zero vector shows.
  const RunResult gemm = check_broken("gemm");
  EXPECT_EQ(gemm.code, 1) << gemm.output;
  EXPECT_HAS(gemm.output,
             "attar_gemm, type q4_k, activations f32: tensor q4_k.f32.products, row 0, column 6: expected ");
  EXPECT_HAS(gemm.output, "3 functions and tensors differ");

  const RunResult refuse = check_broken("refuse");
  EXPECT_EQ(refuse.code, 1) << refuse.output;
  EXPECT_HAS(refuse.output,
             "attar_dot, type q5_1, activations f32: tensor q5_1.f32.products: answered 2 (no such type");
}

TEST_F(Golden, RefusesAFolderAlteredByAByte) {
  for (const char* name : {"kernels.safetensors", "attention.safetensors", "layers.safetensors", "config.json",
                           "README.md", "golden.json", "golden.json.xxh128"}) {
    const std::string whole = read_text_file(directory() / name);
    for (const std::size_t at : {std::size_t{0}, whole.size() / 2, whole.size() - 1}) {
      std::string altered = whole;
      altered[at] = static_cast<char>(altered[at] ^ 1);
      write_text_file(directory() / name, altered);
      const RunResult result = check();
      EXPECT_EQ(result.code, 2) << name << " at " << at << ": " << result.output;
      // A hash that is another one can only be told from the index being another one.
      EXPECT_HAS(result.output, "golden.json.xxh128" == std::string(name) ? "golden.json" : name);
      EXPECT_HAS(result.output, "altered");
    }
    write_text_file(directory() / name, whole);
  }
  fs::rename(directory() / "layers.safetensors", *folder_ / "aside");
  const RunResult missing = check();
  EXPECT_EQ(missing.code, 2);
  EXPECT_HAS(missing.output, "layers.safetensors");
  fs::rename(*folder_ / "aside", directory() / "layers.safetensors");
  EXPECT_EQ(check().code, 0);
}

TEST_F(Golden, RefusesWhatCannotBeChecked) {
  const auto expect = [](const std::string& arguments, const std::string& words) {
    const RunResult result = run_attar("golden " + arguments);
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_HAS(result.output, words);
  };
  const std::string model = (*folder_ / "model.gguf").string();
  expect("", "either MODEL and -o");
  expect(model, "-o FOLDER is missing");
  expect(model + " --check " + directory().string(), "either MODEL and -o");
  expect(model + " -o " + (*folder_ / "other").string() + " --with lib.so", "--with goes with --check");
  expect("--check " + (*folder_ / "nowhere").string(), "golden.json.xxh128");
  expect("--check " + directory().string() + " --with " + (*folder_ / "none.so").string(), "none.so");
  expect("--check " + directory().string() + " --with libc.so.6", "cannot load libc.so.6");
  expect("--check " + directory().string() + " --with " + loaded_library("libc.so"),
         "has no function attar_type_by_name");
}

TEST_F(Golden, SameBytesAtAnyThreadCountAndOthersFromAnotherSeed) {
  const auto hashes = [&](const std::string& more) {
    const fs::path json = *folder_ / "made.json";
    const RunResult result = run_attar("golden " + (*folder_ / "model.gguf").string() + " -o " +
                                       (*folder_ / "again").string() + " --json " + json.string() + " " + more);
    EXPECT_EQ(result.code, 0) << result.output;
    return nlohmann::json::parse(read_text_file(json))["files"];
  };
  const auto first = nlohmann::json::parse(read_text_file(directory() / "golden.json"))["files"];
  EXPECT_EQ(hashes("--seed 3 --threads 1"), first);
  EXPECT_NE(hashes("--seed 4")["kernels.safetensors"], first["kernels.safetensors"]);
}

TEST_F(Golden, BlocksAndProductsAreWhatTheTableSays) {
  const auto index = nlohmann::json::parse(read_text_file(directory() / "golden.json"));
  const auto tensors = tensors_of(directory() / "kernels.safetensors");
  std::map<std::string, int> seen;
  for (const auto& c : index["kernels"]["cases"]) {
    const std::string name = c["name"];
    ++seen[c["type"]];
    const QuantizedTensor packed = read_packed(tensors.at(name + ".packed"));
    const std::vector<float> values = read_floats(tensors.at(name + ".values"));
    const std::int64_t rows = c["rows"], columns = c["columns"];
    const Type type = *type_from_name(c["type"].get<std::string>());
    ASSERT_EQ(packed.shape,
              (Shape{rows, static_cast<std::int64_t>(row_bytes(type, static_cast<std::uint64_t>(columns)))}));
    // Products with floats against sums of 80-bit numbers over what decode_row gives now.
    const std::vector<float> X = read_floats(tensors.at("activations." + std::to_string(columns)));
    const std::vector<float> products = read_floats(tensors.at(name + ".f32.products"));
    const std::vector<float> tolerance = read_floats(tensors.at(name + ".f32.tolerance"));
    std::vector<float> w(static_cast<std::size_t>(columns));
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
      decode_row(
          type,
          ByteView(packed.bytes)
              .subspan(r * static_cast<std::size_t>(packed.columns()), static_cast<std::size_t>(packed.columns())),
          w);
      ASSERT_EQ(std::memcmp(w.data(), values.data() + r * w.size(), 4 * w.size()), 0) << name;
      for (std::size_t t = 0; t < 5; ++t) {
        long double sum = 0, terms = 0;
        for (std::size_t i = 0; i < w.size(); ++i) {
          sum += static_cast<long double>(w[i]) * X[t * w.size() + i];
          terms += std::fabs(static_cast<long double>(w[i]) * X[t * w.size() + i]);
        }
        const std::size_t at = t * static_cast<std::size_t>(rows) + r;
        ASSERT_NEAR(products[at], static_cast<double>(sum), 1e-7 * std::fabs(static_cast<double>(sum))) << name;
        ASSERT_NEAR(tolerance[at], static_cast<double>(1e-6L * terms), 1e-6 * tolerance[at]) << name;
      }
    }
  }
  for (const TypeInfo& entry : all_types())
    if (entry.quantized) {
      EXPECT_GE(seen[entry.name], 1) << entry.name;
    }
  EXPECT_EQ(seen["q8_0"], 2);  // the model's own bytes too
  EXPECT_TRUE(tensors.count("q4_k.q8_k.integers") == 1 && tensors.count("q4_0.int8_row.integers") == 1);
}

TEST_F(Golden, AttentionIsThatOfTheRuntime) {
  const auto tensors = tensors_of(directory() / "attention.safetensors");
  const auto index = nlohmann::json::parse(read_text_file(directory() / "golden.json"))["attention"];
  std::vector<float> q = read_floats(tensors.at("attention.q"));
  const std::vector<float> k = read_floats(tensors.at("attention.k")), v = read_floats(tensors.at("attention.v"));
  const Shape shape = tensors.at("attention.q").shape;
  const auto heads = static_cast<std::size_t>(shape[0]), T = static_cast<std::size_t>(shape[1]),
             D = static_cast<std::size_t>(shape[2]);
  const auto kv_heads = static_cast<std::size_t>(tensors.at("attention.k").shape[0]);
  const auto by_token = [&](const std::vector<float>& x, std::size_t n, float scale) {
    std::vector<float> out(x.size());
    for (std::size_t h = 0; h < n; ++h)
      for (std::size_t t = 0; t < T; ++t)
        for (std::size_t d = 0; d < D; ++d) out[(t * n + h) * D + d] = scale * x[(h * T + t) * D + d];
    return out;
  };
  LayerCache cache(CacheType::kF32, kv_heads, D);
  cache.write(0, T, by_token(k, kv_heads, 1).data(), by_token(v, kv_heads, 1).data());
  std::vector<float> out(q.size());
  cache.attend({heads, kv_heads, D, 0, 0}, 0, T, by_token(q, heads, index["attention"]["scale"].get<float>()).data(),
               out.data());
  const std::vector<float> expected = read_floats(tensors.at("attention.output"));
  for (std::size_t i = 0; i < out.size(); ++i)
    ASSERT_NEAR(out[i], expected[i], index["attention"]["tolerance"].get<double>()) << i;
}

TEST_F(Golden, LayersAreThoseOfTheRunnerOnThePackedWeights) {
  const auto tensors = tensors_of(directory() / "layers.safetensors");
  const auto index = nlohmann::json::parse(read_text_file(directory() / "golden.json"));
  const auto tokens = index["tokens"].get<std::vector<std::int64_t>>();
  RunnerOptions exact;
  exact.exact = true;
  Runner runner(open_checkpoint(*folder_ / "model.gguf"), exact);
  const std::vector<float> logits = runner.feed(tokens, true), expected = read_floats(tensors.at("logits"));
  ASSERT_EQ(logits.size(), expected.size());
  for (std::size_t i = 0; i < logits.size(); ++i)
    ASSERT_NEAR(logits[i], expected[i], index["layers"]["tolerances"]["logits"].get<double>()) << i;
  EXPECT_TRUE(tensors.count("layers.1") == 1 && tensors.count("layers.0.attention") == 1 &&
              tensors.count("final_norm") == 1);
}

// The rotation of every family's tables, against transformers' logits by way of the layers: see LogitsOracle. Here the
// pairs.
TEST_F(Golden, RotatedPairsKeepTheirLength) {
  const auto tensors = tensors_of(directory() / "attention.safetensors");
  const std::vector<float> in = read_floats(tensors.at("rope.input")), out = read_floats(tensors.at("rope.output"));
  const std::size_t D = static_cast<std::size_t>(tensors.at("rope.input").shape[1]);
  ASSERT_EQ(read_floats(tensors.at("rope.theta"))[0], 1.0f);
  // Position 1, pair 0 turns by one radian.
  EXPECT_NEAR(out[D], in[D] * std::cos(1.0) - in[D + D / 2] * std::sin(1.0), 2e-6);
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (i % D >= D / 2) continue;
    EXPECT_NEAR(std::hypot(out[i], out[i + D / 2]), std::hypot(in[i], in[i + D / 2]), 2e-6);
  }
}

TEST(GoldenOracle, SlidingWindowsAndLocalAngles) {
  const fs::path oracle = test::shared("oracles/gemma3");
  SKIP_WITHOUT(oracle);
  const test::TempFolder folder;
  const RunResult made = run_attar("golden " + oracle.string() + " -o " + (folder / "g").string() + " --ids " +
                                   (folder / "ids.safetensors").string());
  EXPECT_EQ(made.code, 2) << made.output;  // no such file
  const auto oracle_ids = tensors_of(oracle / "expected_logits.safetensors");
  QuantizedTensor ids = read_packed(oracle_ids.at("input_ids"));
  const std::int64_t time = ids.shape[1];
  ids.shape[0] = 1, ids.bytes.resize(static_cast<std::size_t>(time) * 8);
  write_safetensors(folder / "ids.safetensors", {make_tensor("input_ids", ids)});
  const RunResult again = run_attar("golden " + oracle.string() + " -o " + (folder / "g").string() + " --ids " +
                                    (folder / "ids.safetensors").string());
  ASSERT_EQ(again.code, 0) << again.output;
  // The logits are transformers' own.
  const std::vector<float> got = read_floats(tensors_of(folder / "g" / "layers.safetensors").at("logits"));
  const std::vector<float> expected = read_floats(oracle_ids.at("logits"));
  ASSERT_EQ(2 * got.size(), expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-4);
  const auto tensors = tensors_of(folder / "g" / "attention.safetensors");
  const auto index = nlohmann::json::parse(read_text_file(folder / "g" / "golden.json"))["attention"];
  const auto window = index["attention.sliding"]["window"].get<std::size_t>();
  const std::vector<float> weights = read_floats(tensors.at("attention.sliding.weights"));
  const auto T = static_cast<std::size_t>(time);
  for (std::size_t t = 0; t < T; ++t) {  // of the first head
    double sum = 0;
    for (std::size_t u = 0; u < T; ++u) {
      EXPECT_EQ(weights[t * T + u] > 0, u <= t && u + window > t);
      sum += weights[t * T + u];
    }
    EXPECT_NEAR(sum, 1, 1e-6);
  }
  EXPECT_EQ(tensors.count("rope.sliding.cos"), 1u);
}

}  // namespace
}  // namespace attar
