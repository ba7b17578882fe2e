#include "model/tensor.h"
#include "quantize/imatrix.h"

#include <gtest/gtest.h>

#include "base/console.h"
#include "datasets/corpus.h"
#include "base/random.h"
#include "base/threads.h"
#include "convert/gguf.h"
#include "quantize/pipeline.h"
#include "tests/convert/bytes.h"
#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

class Imatrix : public ::testing::Test {
 protected:
  void SetUp() override {
    set_verbosity(Verbosity::kQuiet);
    ModelConfig config = test::tiny_config(Family::kLlama, 4, 2, 16);
    config.hidden_size = 64;
    config.intermediate_size = 96;
    decoder = test::tiny_decoder(config);
    model = to_checkpoint(*decoder, {});
    Random random(1);
    chunks.assign(6, Ids(20));
    for (Ids& chunk : chunks)
      for (std::int64_t& id : chunk) id = static_cast<std::int64_t>(random.below(61));
  }
  void TearDown() override { set_verbosity(Verbosity::kNormal); }

  std::shared_ptr<Decoder> decoder;
  Checkpoint model;
  std::vector<Ids> chunks;
  test::TempFolder folder;
};

TEST_F(Imatrix, HoldsTheSumsOfSquaredInputs) {
  const ImportanceMatrix measured = measure_imatrix(model, chunks), on_disk = measure_imatrix(model, chunks, folder.path());
  EXPECT_EQ(measured.entries.size(), 3u * 7 + 1);
  for (const auto& [name, entry] : measured.entries) EXPECT_EQ(on_disk.entries.at(name).sums, entry.sums) << name;
  EXPECT_TRUE(fs::is_empty(folder.path()));
  std::map<std::string, at::Tensor> sums;
  decoder->observer = [&](const std::string& name, const at::Tensor& x) {
    const at::Tensor sum = x.reshape({-1, x.size(-1)}).to(at::kDouble).square().sum(0);
    at::Tensor& total = sums[name];
    total = total.defined() ? total + sum : sum;
  };
  const at::NoGradGuard no_grad;
  for (const Ids& chunk : chunks) decoder->forward(tensor_of(chunk).unsqueeze(0));
  decoder->observer = nullptr;
  const std::pair<const char*, const char*> names[] = {{"blk.0.attn_k.weight", "model.layers.0.self_attn.k_proj"},
                                                       {"blk.1.attn_output.weight", "model.layers.1.self_attn.o_proj"},
                                                       {"blk.2.ffn_up.weight", "model.layers.2.mlp.up_proj"},
                                                       {"blk.2.ffn_down.weight", "model.layers.2.mlp.down_proj"},
                                                       {"output.weight", "lm_head"}};
  for (const auto& [gguf, canonical] : names) {
    const auto& entry = measured.entries.at(gguf);
    EXPECT_EQ(entry.tokens, 120.0);
    const at::Tensor& expected = sums.at(canonical);
    ASSERT_EQ(static_cast<std::int64_t>(entry.sums.size()), expected.numel());
    for (std::size_t j = 0; j < entry.sums.size(); ++j) {
      const auto value = expected[static_cast<std::int64_t>(j)].item<double>();
      EXPECT_NEAR(entry.sums[j], value, 1e-4 * value) << gguf << " " << j;
    }
  }
}

TEST_F(Imatrix, SurvivesItsFileAndAnyNumberOfThreads) {
  const int before = thread_count();
  set_thread_count(1);
  ImportanceMatrix measured = measure_imatrix(model, chunks);
  measured.datasets = {"a.txt", "b.txt"};
  set_thread_count(3);
  const ImportanceMatrix again = measure_imatrix(model, chunks);
  set_thread_count(before);
  write_imatrix(measured, folder / "i.gguf");
  const ImportanceMatrix read = read_imatrix(folder / "i.gguf");
  EXPECT_EQ(read.datasets, measured.datasets);
  EXPECT_EQ(read.chunks, 6);
  EXPECT_EQ(read.chunk_tokens, 20);
  ASSERT_EQ(read.entries.size(), measured.entries.size());
  for (const auto& [name, entry] : measured.entries) {
    EXPECT_EQ(read.entries.at(name).sums, entry.sums) << name;
    EXPECT_EQ(again.entries.at(name).sums, entry.sums) << name;
    EXPECT_EQ(read.entries.at(name).tokens, entry.tokens);
  }
}

// llama-imatrix of build 11669 writes plain sums and statistics beside what is needed.
TEST_F(Imatrix, OtherTensorsOfTheFileAreLeftAlone) {
  GgufWriter writer;
  writer.add_text("general.type", "imatrix");
  for (const char* name : {"blk.0.attn_q.weight.in_sum", "blk.0.attn_q.weight.in_sum2", "blk.0.attn_q.weight.counts", "blk.0.attn_q.weight.stats"})
    writer.add_tensor(name, Type::kF32, {1}, [](Slices& slices) {
      const float one = 1.0f;
      slices.add(std::as_bytes(std::span(&one, 1)));
    });
  writer.write(folder / "i.gguf");
  const ImportanceMatrix read = read_imatrix(folder / "i.gguf");
  ASSERT_EQ(read.entries.size(), 1u);
  EXPECT_EQ(read.entries.begin()->first, "blk.0.attn_q.weight");
}

TEST_F(Imatrix, WeighsTheRounding) {
  QuantizeOptions options;
  options.plan.preset = &preset_from_name("q4_0");
  options.importance = measure_imatrix(model, chunks);
  QuantizeReport report;
  const Checkpoint weighted = quantize(model, options, report);
  for (const TensorReport& tensor : report.tensors) {
    const bool known = tensor.plan.name != "model.embed_tokens.weight";
    EXPECT_EQ(tensor.method, known ? "rtn+importance" : "rtn") << tensor.plan.name;
  }
  options.importance.reset();
  const Checkpoint plain = quantize(model, options, report);
  const ImportanceMatrix measured = measure_imatrix(model, chunks);
  const auto error = [&](const Checkpoint& rounded) {  // sum of h (w - q)^2
    const std::vector<float> w = read_floats(model.at("model.layers.1.mlp.down_proj.weight")),
                             q = read_floats(rounded.at("model.layers.1.mlp.down_proj.weight"));
    const std::vector<float>& h = measured.entries.at("blk.1.ffn_down.weight").sums;
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) sum += static_cast<double>(h[i % h.size()]) * (w[i] - q[i]) * (w[i] - q[i]);
    return sum;
  };
  EXPECT_LT(error(weighted), error(plain));
}

TEST_F(Imatrix, BadFilesAreNamed) {
  const fs::path file = folder / "i.gguf";
  ImportanceMatrix imatrix;
  imatrix.entries["blk.0.attn_q.weight"] = {{1, 2, 3}, 0};
  write_imatrix(imatrix, file);
  EXPECT_ERROR(read_imatrix(file), "blk.0.attn_q.weight.counts is missing or 0");
  imatrix.entries["blk.0.attn_q.weight"] = {{1, -2, 3}, 5};
  write_imatrix(imatrix, file);
  EXPECT_ERROR(read_imatrix(file), "blk.0.attn_q.weight.in_sum2 holds -2");
  imatrix.entries.clear();
  write_imatrix(imatrix, file);
  EXPECT_ERROR(read_imatrix(file), "holds no importance");
  write_gguf(model, file);
  EXPECT_ERROR(read_imatrix(file), "not an importance matrix: general.type is 'model'");
  EXPECT_ERROR(read_imatrix(folder / "missing.gguf"), "missing.gguf");
  test::put(file, "GGUF");
  EXPECT_ERROR(read_imatrix(file), "i.gguf");

  QuantizeOptions options;
  options.plan.preset = &preset_from_name("q4_0");
  options.importance = measure_imatrix(model, chunks);
  QuantizeReport report;
  options.importance->entries["blk.9.ffn_up.weight"] = options.importance->entries.at("blk.1.ffn_up.weight");
  EXPECT_ERROR(quantize(model, options, report), "knows blk.9.ffn_up.weight, which the model has not");
  options.importance->entries.erase("blk.9.ffn_up.weight");
  options.importance->entries.at("blk.1.ffn_up.weight").sums.pop_back();
  EXPECT_ERROR(quantize(model, options, report), "63 columns for blk.1.ffn_up.weight, the model 64");
  options.importance->entries.erase("blk.1.ffn_up.weight");
  EXPECT_ERROR(quantize(model, options, report), "nothing on blk.1.ffn_up.weight");
}

// llama-imatrix.gguf is llama.cpp's own (build 11669), of the built-in teacher in f32 and the first 12,000 bytes of builtin:calibration:
//   llama-imatrix -m teacher.f32.gguf -f builtin.txt -c 128
TEST(LlamaImatrix, SaysWhatIsMeasuredHere) {
  const ImportanceMatrix theirs = read_imatrix(fs::path(std::getenv("ATTAR_SOURCE")) / "tests/quantize/llama-imatrix.gguf");
  EXPECT_EQ(theirs.datasets, std::vector<std::string>{"builtin.txt"});
  EXPECT_EQ(theirs.chunk_tokens, 128);
  const Checkpoint teacher = open_checkpoint("builtin:teacher");
  const Tokenizer tokenizer(teacher.tokenizer);
  const Ids ids = tokenizer.encode(read_source("builtin:calibration").substr(0, 12000), true);
  std::vector<Ids> chunks;
  for (std::size_t begin = 0; begin + 128 <= ids.size(); begin += 128) {
    chunks.emplace_back(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.begin() + static_cast<std::ptrdiff_t>(begin + 128));
    chunks.back().front() = ids.front();  // BOS
  }
  EXPECT_EQ(theirs.chunks, std::ssize(chunks));
  const ImportanceMatrix ours = measure_imatrix(teacher, chunks);
  EXPECT_EQ(theirs.entries.size(), 21u) << "all linears; llama-imatrix leaves out the head";
  for (const auto& [name, entry] : theirs.entries) {
    const auto& own = ours.entries.at(name);
    EXPECT_EQ(entry.tokens, own.tokens) << name;
    ASSERT_EQ(entry.sums.size(), own.sums.size()) << name;
    for (std::size_t i = 0; i < own.sums.size(); ++i) EXPECT_NEAR(entry.sums[i], own.sums[i], 0.01 * own.sums[i] + 1e-4) << name << " column " << i;
  }
  // What it is for.
  QuantizeOptions options;
  options.plan.preset = &preset_from_name("q4_0");
  options.importance = theirs;
  QuantizeReport report;
  quantize(teacher, options, report);
  EXPECT_EQ(std::count_if(report.tensors.begin(), report.tensors.end(), [](const TensorReport& tensor) { return tensor.method == "rtn+importance"; }), 21);
}

}  // namespace
}  // namespace attar
