// attar report, attar compare and attar eval --layers, from the outside.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/files.h"
#include "convert/checkpoint.h"
#include "tests/cli/random_model.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using nlohmann::json;
using test::run_attar;

class ReportTest : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  json read(const std::string& name) const { return json::parse(read_text_file(folder_ / name)); }
  void must(const std::string& arguments) {
    const auto result = run_attar(arguments);
    ASSERT_EQ(result.code, 0) << arguments << "\n" << result.output;
  }
  // A model, a coarser one of it, and what is known of them.
  void make_models() {
    write_hf(test::random_model(), folder_ / "original");
    write_text_file(folder_ / "text.txt", test::tiny_text(200, 3));
    must("quantize " + path("original") + " -o " + path("small.gguf") + " --type q4_0 --json " + path("quantize.json") + " --quiet");
    must("eval " + path("small.gguf") + measured() + " --reference " + path("original") + " --layers " + path("original") + " --json " + path("eval.json") + " --quiet");
  }
  std::string measured() const { return " --data " + path("text.txt") + " --context 32 --chunks 4"; }
  test::TempFolder folder_;
};

TEST_F(ReportTest, IsMadeFromWhatTheCommandsWrite) {
  make_models();
  must("bench " + path("small.gguf") + " --prompt 8 --decode 4 --json " + path("bench.json"));
  const std::string files = path("quantize.json") + " " + path("eval.json") + " " + path("bench.json");
  const auto result = run_attar("report " + files + " -o " + path("report.html") + " --json " + path("report.json"));
  ASSERT_EQ(result.code, 0) << result.output;
  EXPECT_HAS(result.output, "No gate was given");
  EXPECT_EQ(read("report.json")["outcome"], "open");
  const std::string page = read_text_file(folder_ / "report.html");
  for (const char* name : {"/perplexity/value", "/kl_divergence/mean", "/same_top/share", "/layers/tensors/1/kl_divergence"})
    EXPECT_HAS(page, "<data value=\"" + read("eval.json")[json::json_pointer(name)].dump() + "\"");
  EXPECT_HAS(page, "Layer by layer");
  must("report " + files + " -o " + path("report.md"));
  EXPECT_TRUE(read_text_file(folder_ / "report.md").starts_with("# Attar"));
  must("report " + files + " -o " + path("plain") + " --format markdown");
  EXPECT_EQ(read_text_file(folder_ / "plain"), read_text_file(folder_ / "report.md"));

  const std::string before = read_text_file(folder_ / "eval.json");
  EXPECT_EQ(run_attar("report " + files + " -o " + path("eval.json")).code, 2) << "not over a result";
  EXPECT_EQ(read_text_file(folder_ / "eval.json"), before);
  const auto unwritable = run_attar("report " + files + " -o " + path("no/such/folder/report.html"));
  EXPECT_EQ(unwritable.code, 2);
  EXPECT_HAS(unwritable.output, "report.html");
}

TEST_F(ReportTest, TellsWhatMadeEachModelAndWhatItSays) {
  make_models();
  must("calibrate " + path("original") + " --data " + path("text.txt") + " --context 32 --samples 4 -o " + path("i.gguf") + " --json " + path("calibrate.json"));
  must("compare " + path("original") + " " + path("small.gguf") + measured() + " --reference " + path("original") + " --json " + path("compare.json"));
  for (const char* model : {"original", "small.gguf"})
    must("generate " + path(model) + " --prompt \"a b\" --max-tokens 4 --temperature 1 --seed 3 --json " + path(std::string(model) + ".says.json"));
  must("bench " + path("small.gguf") + " --prompt 8 --decode 4 --json " + path("bench.json"));

  const std::string made = read("eval.json")["model"]["hash"], from = read("eval.json")["reference"]["hash"];
  EXPECT_EQ(read("quantize.json")["output_hash"], made);
  EXPECT_EQ(read("quantize.json")["model_hash"], from);
  EXPECT_EQ(read("bench.json")["model_hash"], made);
  EXPECT_EQ(read("calibrate.json")["model_hash"], from);
  const std::string line = "attar quantize " + path("original") + " -o " + path("small.gguf") + " --type q4_0 --json " + path("quantize.json") + " --quiet";
  EXPECT_EQ(read("quantize.json")["command_line"], line);

  must("report " + path("quantize.json") + " " + path("calibrate.json") + " " + path("compare.json") + " " + path("original.says.json") + " " + path("small.gguf.says.json") + " " +
       path("bench.json") + " -o " + path("r.html"));
  const std::string page = read_text_file(folder_ / "r.html");
  for (const std::string& words : {line, made, from, std::string("temperature 1, seed 3"), std::string("<h4>original</h4>"), std::string("<h4>small.gguf</h4>")}) EXPECT_HAS(page, words);
  const json compared = read("compare.json")["groups"][0]["models"][1];
  EXPECT_HAS(page, "<data value=\"" + compared["metrics"]["kl_divergence.mean"]["value"].dump() + "\"");
  EXPECT_EQ(compared["confidence"]["intervals"], read("eval.json")["confidence"]["intervals"]) << "the same text and seed";
  EXPECT_HAS(page, "<data value=\"" + compared["confidence"]["against_reference"]["perplexity.value"]["low"].dump() + "\"");
}

TEST_F(ReportTest, BadResultsAreNamed) {
  write_text_file(folder_ / "other.json", "{\"model_type\": \"llama\"}");
  const auto other = run_attar("report " + path("other.json") + " -o " + path("r.html"));
  EXPECT_EQ(other.code, 2);
  EXPECT_HAS(other.output, "other.json: is not a result of Attar");
  EXPECT_FALSE(fs::exists(folder_ / "r.html"));
  EXPECT_EQ(run_attar("report -o " + path("r.html")).code, 2);
  EXPECT_EQ(run_attar("report " + path("none.json") + " -o " + path("r.html")).code, 2);
}

// The divergence of one tensor alone, asked for in another way: a model that has just this tensor quantized.
TEST_F(ReportTest, LayersAgreeWithModelsThatHaveOneTensorQuantized) {
  make_models();
  must("eval " + path("small.gguf") + measured() + " --reference " + path("original") + " --json " + path("floats.json") + " --float --quiet");
  const json layers = read("eval.json")["layers"];
  EXPECT_EQ(layers["chunks"], 4);
  EXPECT_EQ(layers["positions"], 4 * 15);
  EXPECT_NEAR(layers["kl_together"].get<double>(), read("floats.json")["kl_divergence"]["mean"].get<double>(), 1e-4 * layers["kl_together"].get<double>());
  const Checkpoint original = open_checkpoint(folder_ / "original"), small = open_checkpoint(folder_ / "small.gguf");
  for (const char* name : {"model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "lm_head.weight"}) {
    Checkpoint one = original;
    for (Tensor& tensor : one.tensors)
      if (tensor.name == name) tensor = make_tensor(name, tensor.shape, read_floats(small.at(name)));
    write_hf(one, folder_ / "one");
    must("eval " + path("one") + measured() + " --reference " + path("original") + " --json " + path("one.json") + " --quiet");
    const double expected = read("one.json")["kl_divergence"]["mean"];
    bool found = false;
    for (const json& tensor : layers["tensors"])
      if (tensor["name"] == name) {
        EXPECT_NEAR(tensor["kl_divergence"].get<double>(), expected, 2e-3 * expected) << name;
        found = true;
      }
    EXPECT_TRUE(found) << name;
  }
}

TEST_F(ReportTest, LayersOfAnotherModelAreRefusedBeforeTheWork) {
  make_models();
  test::write_tiny_folder(folder_ / "tiny", 1);
  const auto result = run_attar("eval " + path("small.gguf") + measured() + " --layers " + path("tiny"));
  EXPECT_EQ(result.code, 2);
  EXPECT_HAS(result.output, "was not quantized from");
  EXPECT_EQ(result.output.find("perplexity"), std::string::npos) << result.output;
}

TEST_F(ReportTest, ComparePutsModelsAndResultsSideBySide) {
  make_models();
  const auto table = run_attar("compare " + path("original") + " " + path("small.gguf") + measured() + " --reference " + path("original") + " --json " + path("c.json"));
  ASSERT_EQ(table.code, 0) << table.output;
  for (const char* word : {"perplexity", "mean KL", "same top", "bits/weight", "small.gguf", "original"}) EXPECT_HAS(table.output, word);
  const json compared = read("c.json");
  ASSERT_EQ(compared["groups"].size(), 1u);
  ASSERT_EQ(compared["groups"][0]["models"].size(), 2u);
  EXPECT_EQ(compared["groups"][0]["models"][1]["metrics"]["kl_divergence.mean"]["value"], read("eval.json")["kl_divergence"]["mean"]) << "what eval says";
  EXPECT_EQ(compared["groups"][0]["protocol"]["context"], 32);
  // The first is the reference of the second too, so the differences from both are one.
  json less = compared["groups"][0]["models"][1]["against_first"]["perplexity.value"];
  EXPECT_EQ(less["low"], compared["groups"][0]["models"][1]["confidence"]["against_reference"]["perplexity.value"]["low"]);
  EXPECT_EQ(less["first"], compared["groups"][0]["models"][0]["metrics"]["perplexity.value"]["value"]);
  EXPECT_HAS(table.output, "less that of original");

  // The same from stored results; a result and a model that is measured now.
  must("eval " + path("original") + measured() + " --json " + path("original.json") + " --quiet");
  const auto stored = run_attar("compare " + path("original.json") + " " + path("eval.json"), "2>/dev/null");
  EXPECT_EQ(stored.code, 0);
  EXPECT_HAS(stored.output, "small.gguf");
  EXPECT_HAS(run_attar("compare " + path("eval.json") + " " + path("original") + measured() + " --markdown").output, "|---|---:|");

  // Measured otherwise.
  must("eval " + path("small.gguf") + measured() + " --json " + path("floats.json") + " --float --quiet");
  const auto floats = run_attar("compare " + path("eval.json") + " " + path("floats.json"));
  EXPECT_EQ(floats.code, 2);
  EXPECT_HAS(floats.output, "quantized models on the kernels against in floats");
  must("eval " + path("original") + " --data " + path("text.txt") + " --context 16 --chunks 4 --json " + path("short.json") + " --quiet");
  const auto refused = run_attar("compare " + path("eval.json") + " " + path("short.json"));
  EXPECT_EQ(refused.code, 2);
  EXPECT_HAS(refused.output, "were not measured alike: context 32 against 16");
  const auto mixed = run_attar("compare " + path("eval.json") + " " + path("short.json") + " --mixed");
  EXPECT_EQ(mixed.code, 0);
  EXPECT_HAS(mixed.output, "figures of different tables cannot be compared");

  EXPECT_HAS(run_attar("compare " + path("eval.json") + " " + path("original.json") + " --reference " + path("original")).output, "--reference is for models");
  EXPECT_EQ(run_attar("compare " + path("eval.json")).code, 2) << "alone";
  EXPECT_EQ(run_attar("compare " + path("eval.json") + " " + path("eval.json")).code, 2) << "twice";
  EXPECT_HAS(run_attar("compare " + path("eval.json") + " " + path("original")).output, "give --data TEXT");
}

}  // namespace
}  // namespace attar
