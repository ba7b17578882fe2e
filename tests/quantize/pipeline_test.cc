#include "quantize/pipeline.h"
#include "quantize/round.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>

#include "base/console.h"
#include "base/error.h"
#include "base/threads.h"
#include "quantize/memory.h"
#include "quantize/output_metric.h"
#include "quantize/rtn.h"
#include "quantize/streams.h"
#include "tests/quantize/small_model.h"
#include "tests/quantize/support.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::all_bytes;
using test::chunks_of;
using test::small_config;
class Pipeline : public test::SmallModel {};

TEST_F(Pipeline, GptqDamagesLessThanRoundToNearest) {
  const double calibrated = damage(quantize(model, options, report));
  EXPECT_EQ(report.layer_error.size(), 3u);
  EXPECT_EQ(report.calibration_tokens, 64 * 32);
  QuantizeOptions rtn = options;
  rtn.method = Method::kRtn;
  const double weighted = damage(quantize(model, rtn, report));
  rtn.calibration.clear();
  const double plain = damage(quantize(model, rtn, report));
  EXPECT_LT(calibrated, 0.8 * weighted);
  EXPECT_LT(calibrated, 0.8 * plain);
}

TEST_F(Pipeline, AutoRoundMovesEachHalfNearerToTheOriginal) {
  options.rounding.steps = 60;
  for (const Method method : {Method::kRtn, Method::kGptq}) {
    options.method = method, options.autoround = false;
    const double before = damage(quantize(model, options, report));
    options.autoround = true;
    const double after = damage(quantize(model, options, report));
    EXPECT_LT(after, (method == Method::kRtn ? 0.9 : 1.1) * before);  // on other text; GPTQ leaves little to learn from so little
    ASSERT_EQ(report.autoround.size(), static_cast<std::size_t>(2 * model.config.layers));
    for (const AutoRoundResult& half : report.autoround) EXPECT_LE(half.after, half.before);
    if (method == Method::kRtn) {
      EXPECT_LT(report.autoround.front().after, 0.9 * report.autoround.front().before);
    }
    for (const TensorReport& tensor : report.tensors) EXPECT_EQ(tensor.method.ends_with("+autoround"), tensor.plan.layer >= 0) << tensor.plan.name;
  }
}

TEST_F(Pipeline, AutoRoundDoesNotChangeWhatGptqAimsAt) {
  options.corrected_target = false;
  const std::vector<Bytes> expected = all_bytes(quantize(model, options, report));
  options.autoround = true;
  options.rounding.steps = 0;
  EXPECT_EQ(all_bytes(quantize(model, options, report)), expected);
}

// What AutoRound follows downhill: the gradient against differences of the error itself.
TEST_F(Pipeline, TheErrorOfAHalfHasTheGradientItSays) {
  const OneTorchThread one_thread;
  const at::NoGradGuard no_grad;
  Streams streams(model, options.calibration, {.with_original = true, .again = true});
  streams.start(model.at("model.embed_tokens.weight"));
  const std::vector<std::size_t> chunks = {3, 0, 5};
  const std::int64_t hidden = model.config.hidden_size;
  const at::Tensor R = test::normal(hidden, hidden, 8) * 0.1, A = at::eye(hidden) + at::mm(R, R.t());
  for (const Half half : {Half::kAttention, Half::kMlp}) {
    streams.enter(0, half);
    streams.lead();
    const std::string name = streams.linear_weights().front();
    const at::Tensor W = read_tensor(model.at(name)), direction = test::normal(W.size(0), W.size(1), 9) * 0.01;
    const auto at = [&](double t) {
      streams.replace(name, W + 0.1 * test::normal(W.size(0), W.size(1), 10) + t * direction);
      std::map<std::string, at::Tensor> none;
      return streams.error(chunks, A, none);
    };
    const double slope = (at(1) - at(-1)) / 2;
    at(0);
    std::map<std::string, at::Tensor> gradients = {{name, at::zeros_like(W)}};
    EXPECT_GT(streams.error(chunks, A, gradients), 0.0);
    EXPECT_NEAR((gradients.at(name) * direction).sum().item<double>(), slope, 0.03 * std::abs(slope) + 1e-4);
    streams.leave();
  }
}

// A matrix that is embedding and output head at once is solved for the head's inputs.
TEST_F(Pipeline, TablesAreCalibratedToo) {
  for (const Family family : {Family::kLlama, Family::kGemma3}) {  // with a head of its own, and tied
    SCOPED_TRACE(info(family).model_type);
    make(family);
    options.plan.pure = true;
    const std::string table = model.config.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    const Checkpoint calibrated = quantize(model, options, report);
    const auto entry = std::find_if(report.tensors.begin(), report.tensors.end(),
                                    [&](const TensorReport& tensor) { return tensor.plan.name == table; });
    ASSERT_NE(entry, report.tensors.end());
    EXPECT_EQ(entry->method, "gptq");
    Checkpoint rounded = calibrated;
    for (Tensor& tensor : rounded.tensors)
      if (tensor.name == table) tensor = make_tensor(table, rtn(Type::kQ4_0, model.at(table)).Q);
    EXPECT_LT(damage(calibrated), 0.95 * damage(rounded));
  }
}

TEST_F(Pipeline, AnEmbeddingAloneIsSolvedForTheGradientsBehindIt) {
  options.plan.preset = &preset_from_name("q8_0");
  options.plan.overrides.push_back(parse_override("embed_tokens=q4_0"));
  double damages[2];
  for (const bool fisher : {false, true}) {
    options.fisher = fisher;
    damages[fisher] = damage(quantize(model, options, report));
    EXPECT_EQ(report.tensors.front().plan.name, "model.embed_tokens.weight");
    EXPECT_EQ(report.tensors.front().method, fisher ? "gptq" : "rtn");
  }
  EXPECT_LT(damages[1], 0.95 * damages[0]);
}

// Where its rows are read, and where logits are made of them.
TEST_F(Pipeline, ATiedTableIsSolvedForBothItsUses) {
  make(Family::kGemma3);
  options.plan.pure = options.fisher = true;
  const std::string table = "model.embed_tokens.weight";
  const Checkpoint calibrated = quantize(model, options, report);
  const at::NoGradGuard no_grad;
  const OneTorchThread one_thread;
  Streams streams(model, options.calibration, {});
  streams.start(model.at(table));
  for (std::int64_t layer = 0; layer < model.config.layers; ++layer)
    for (const Half half : {Half::kAttention, Half::kMlp}) streams.enter(layer, half), streams.leave();
  const at::Tensor H = streams.final_sums().XtX, G = measure_output_metrics(model, options.calibration, options.seed, {}, [](auto&&...) {});
  const auto solved = [&](const at::Tensor& sum) {
    return gptq(Type::kQ4_0, read_tensor(model.at(table)), make_curvature({sum, {}, {}}, options.gptq, table), options.gptq, table).Q.bytes;
  };
  EXPECT_EQ(read_packed(calibrated.at(table)).bytes, solved(H + G));
  EXPECT_NE(read_packed(calibrated.at(table)).bytes, solved(H));
}

TEST_F(Pipeline, SameBytesAtAnyNumberOfThreads) {
  const int before = thread_count();
  std::vector<std::vector<Bytes>> all;
  options.fisher = true;
  options.autoround = true;
  options.rounding.steps = 5;
  for (const int threads : {1, 2, 3}) {
    set_thread_count(threads);
    all.emplace_back();
    for (const Tensor& tensor : quantize(model, options, report).tensors) all.back().push_back(read_packed(tensor).bytes);
  }
  set_thread_count(before);
  EXPECT_EQ(all[0], all[1]);
  EXPECT_EQ(all[0], all[2]);
}

TEST_F(Pipeline, EveryFamilyIsQuantizedWhole) {
  for (const Family family : {Family::kLlama, Family::kQwen2, Family::kQwen3, Family::kPhi3, Family::kGemma2, Family::kGemma3}) {
    SCOPED_TRACE(info(family).model_type);
    make(family);
    const Checkpoint result = quantize(model, options, report);
    for (const Tensor& tensor : result.tensors) {
      const bool matrix = tensor.shape.size() == 2;
      const bool table = tensor.name == "lm_head.weight" || tensor.name == "model.embed_tokens.weight";
      if (matrix && !table) {
        EXPECT_EQ(tensor.type, Type::kQ4_0) << tensor.name;
      }
      EXPECT_EQ(info(tensor.type).quantized, matrix) << tensor.name;
      EXPECT_EQ(tensor.shape, model.at(tensor.name).shape);
    }
    for (const TensorReport& tensor : report.tensors) {
      EXPECT_FALSE(tensor.method.empty()) << tensor.plan.name;
      EXPECT_LT(tensor.weight_error, 0.1) << tensor.plan.name;
      EXPECT_LT(tensor.output_error, 0.1) << tensor.plan.name;
    }
    EXPECT_TRUE(std::isfinite(damage(result)));
  }
}

TEST_F(Pipeline, ReportsAndJsonNameFallbacks) {
  options.plan.preset = &preset_from_name("q4_k_m");
  options.plan.overrides.push_back(parse_override("layers.0.self_attn.o_proj=f16"));
  quantize(model, options, report);
  std::int64_t fallbacks = 0;
  const nlohmann::json json = to_json(report);
  for (const auto& tensor : json["tensors"]) {
    if (tensor["name"] == "model.layers.0.self_attn.o_proj.weight") {
      EXPECT_EQ(tensor["type"], "f16");
      EXPECT_EQ(tensor["method"], "convert");
      EXPECT_FALSE(tensor.contains("fallback"));
      continue;
    }
    // llama.cpp's mix itself asks Q8_0 for an output whose rows 256 does not divide, so that is no fallback.
    if (tensor["name"] == "lm_head.weight") {
      EXPECT_EQ(tensor["type_asked"], "q8_0");
      EXPECT_EQ(tensor["type"], "q8_0");
      continue;
    }
    EXPECT_TRUE(tensor.contains("fallback")) << tensor.dump();
    EXPECT_NE(tensor["type"], tensor["type_asked"]);
    ++fallbacks;
  }
  EXPECT_EQ(fallbacks, 3 * 7 + 1 - 1);
}

TEST_F(Pipeline, StrictRefusesWhatWouldOtherwiseBeReported) {
  options.strict = true;
  const auto error = [&] {
    try {
      quantize(model, options, report);
    } catch (const Error& thrown) {
      return std::string(thrown.what());
    }
    return std::string();
  };
  EXPECT_NE(error().find("lm_head.weight cannot be q6_k: 64 columns"), std::string::npos) << error();
  options.plan.overrides.push_back(parse_override("lm_head=q8_0"));
  EXPECT_EQ(error(), "");
  // A column of down_proj's input that is always zero.
  for (Tensor& tensor : model.tensors) {
    if (tensor.name != "model.layers.0.mlp.up_proj.weight") continue;
    std::vector<float> values = read_floats(tensor);
    std::fill_n(values.begin() + 3 * 64, 64, 0.0f);
    tensor = make_tensor(tensor.name, tensor.shape, std::move(values));
  }
  EXPECT_NE(error().find("no calibration token reaches 1 of the 96 columns of model.layers.0.mlp.down_proj.weight"),
            std::string::npos) << error();
}

// The scales of the blocks they are in must not be searched as if they did not exist.
TEST_F(Pipeline, ColumnsThatNoTokenReachesAreKeptAndCounted) {
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  for (Tensor& tensor : model.tensors) {
    if (tensor.name != name && tensor.name != "model.layers.0.mlp.up_proj.weight") continue;
    std::vector<float> values = read_floats(tensor);
    const auto columns = static_cast<std::size_t>(tensor.columns());
    for (std::size_t i = 0; i < values.size(); ++i)
      if (tensor.name != name) {
        if (i / columns == 3) values[i] = 0;  // what feeds column 3 of down_proj
      } else if (i % columns == 3) {
        values[i] *= 20;
      }
    tensor = make_tensor(tensor.name, tensor.shape, std::move(values));
  }
  const auto lost = [&](const std::vector<float>& q) {  // share of the column
    const std::vector<float> w = read_floats(model.at(name));
    double error = 0, all = 0;
    for (std::size_t i = 3; i < w.size(); i += static_cast<std::size_t>(model.at(name).columns())) error += (q[i] - w[i]) * (q[i] - w[i]), all += w[i] * w[i];
    return error / all;
  };
  const ImportanceMatrix importance = measure_imatrix(model, options.calibration);
  const std::vector<float> left_out = importance.entries.at("blk.0.ffn_down.weight").mean();
  EXPECT_EQ(left_out[3], 0);
  EXPECT_GT(lost(decode(rtn(Type::kQ4_0, model.at(name), left_out).Q)), 0.6);
  const auto expect_kept = [&](const Checkpoint& quantized) {
    EXPECT_LT(lost(read_floats(quantized.at(name))), 0.3);
    const nlohmann::json json = to_json(report);
    for (std::size_t i = 0; i < report.tensors.size(); ++i) {
      const std::int64_t dead = report.tensors[i].plan.name == name ? 1 : 0;
      EXPECT_EQ(report.tensors[i].dead_columns, dead) << report.tensors[i].plan.name;
      EXPECT_EQ(json["tensors"][i].value("dead_columns", 0), dead);
    }
  };
  for (const Method method : {Method::kRtn, Method::kGptq}) {
    SCOPED_TRACE(name_of(method));
    options.method = method;
    expect_kept(quantize(model, options, report));
  }
  options.method = Method::kRtn;
  options.importance = importance;
  options.calibration.clear();
  expect_kept(quantize(model, options, report));
  const Checkpoint later = round_when_read(model, options, report);
  all_bytes(later);
  settle(report);
  expect_kept(later);
  options.strict = options.plan.pure = true;
  const std::string message = "no calibration token reaches 1 of the 96 columns of " + name;
  EXPECT_HAS(test::error_of([&] { quantize(model, options, report); }), message);
  EXPECT_HAS(test::error_of([&] { round_when_read(model, options, report); }), message);
}

TEST_F(Pipeline, NamesTheMatrixWhoseInputsAreNoNumbers) {
  for (Tensor& tensor : model.tensors) {
    if (tensor.name != "model.layers.1.mlp.up_proj.weight" && tensor.name != "model.layers.1.mlp.gate_proj.weight") continue;
    std::vector<float> values = read_floats(tensor);
    for (float& value : values) value *= 1e22f;
    tensor = make_tensor(tensor.name, tensor.shape, std::move(values));
  }
  options.plan.preset = &preset_from_name("q4_0");
  options.plan.overrides = {parse_override("layers.1.mlp.(up|gate)=f32")};
  const std::string message = "inputs of model.layers.1.mlp.down_proj.weight hold NaN or Inf";
  for (const Method method : {Method::kRtn, Method::kGptq}) {
    options.method = method;
    EXPECT_HAS(test::error_of([&] { quantize(model, options, report); }), message) << name_of(method);
  }
  EXPECT_HAS(test::error_of([&] { measure_imatrix(model, options.calibration); }), message);
}

TEST_F(Pipeline, ALayerBehindWhichNothingIsLeftIsNamed) {
  EXPECT_NO_THROW(judge_layer_error(3, 0.99, true));
  EXPECT_NO_THROW(judge_layer_error(3, 4, false)) << "a warning";
  EXPECT_HAS(test::error_of([] { judge_layer_error(3, 4, true); }), "after layer 3 hidden states are 2 times their length away");
}

TEST_F(Pipeline, NamesTheTensorThatIsNotANumber) {
  for (const char* name : {"model.layers.1.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight", "lm_head.weight"}) {
    for (const Method method : {Method::kRtn, Method::kGptq}) {
      Checkpoint broken = model;
      for (Tensor& tensor : broken.tensors) {
        if (tensor.name != name) continue;
        QuantizedTensor data = read_packed(tensor);
        const float bad = std::numeric_limits<float>::quiet_NaN();
        std::memcpy(data.bytes.data() + 5 * sizeof bad, &bad, sizeof bad);
        tensor = make_tensor(tensor.name, std::move(data));
      }
      options.method = method;
      try {
        quantize(broken, options, report);
        FAIL() << name << " was accepted";
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
        EXPECT_NE(std::string(error.what()).find("NaN"), std::string::npos) << error.what();
      }
    }
  }
}

TEST_F(Pipeline, WhatIsRoundedWhenReadIsTheSame) {
  EXPECT_THROW(round_when_read(model, options, report), Error) << "GPTQ cannot wait";
  options.method = Method::kRtn;
  EXPECT_THROW(round_when_read(model, options, report), Error) << "nor can what is weighed by text";
  options.calibration.clear();
  const Checkpoint later = round_when_read(model, options, report);
  EXPECT_EQ(report.tensors.front().weight_error, 0);
  const std::vector<Bytes> bytes = all_bytes(later);
  settle(report);
  QuantizeReport at_once;
  EXPECT_EQ(bytes, all_bytes(quantize(model, options, at_once)));
  ASSERT_EQ(report.tensors.size(), at_once.tensors.size());
  for (std::size_t i = 0; i < report.tensors.size(); ++i) {
    EXPECT_EQ(report.tensors[i].weight_error, at_once.tensors[i].weight_error);
    EXPECT_GT(report.tensors[i].weight_error, 0) << report.tensors[i].plan.name;
    EXPECT_EQ(report.tensors[i].method, at_once.tensors[i].method);
  }
}

TEST_F(Pipeline, OneRepeatedTokenIsEnoughToFinish) {
  options.calibration.assign(4, Ids(32, 7));
  EXPECT_TRUE(std::isfinite(damage(quantize(model, options, report))));
}

TEST_F(Pipeline, HqqRoundsEveryMatrixAndTakesNoText) {
  options.method = Method::kHqq;
  EXPECT_THROW(quantize(model, options, report), Error);
  options.calibration.clear();
  EXPECT_TRUE(std::isfinite(damage(quantize(model, options, report))));
  for (const TensorReport& tensor : report.tensors) {
    EXPECT_EQ(tensor.method, "hqq") << tensor.plan.name;
    EXPECT_LE(tensor.lp_error, tensor.lp_error_before) << tensor.plan.name;
    EXPECT_GT(tensor.lp_error, 0) << tensor.plan.name;
  }
}

TEST_F(Pipeline, ARotatedModelCountsInMemory) {
  options.max_memory = calibrated_memory(model.config, 32, thread_count());
  quantize(model, options, report);
  options.rotated = true;
  EXPECT_THROW(quantize(model, options, report), Error);
}

TEST_F(Pipeline, AMatrixThatVanishesIsNamed) {
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  for (Tensor& tensor : model.tensors) {
    if (tensor.name != name) continue;
    std::vector<float> tiny = read_floats(tensor);
    for (float& value : tiny) value *= 1e-10f;
    tensor = make_tensor(name, tensor.shape, std::move(tiny));
  }
  for (const Method method : {Method::kRtn, Method::kHqq, Method::kGptq}) {
    options.method = method, options.strict = false;
    options.calibration = method == Method::kGptq ? chunks_of(model.config, 64, 1) : std::vector<Ids>();
    quantize(model, options, report);
    for (const TensorReport& tensor : report.tensors) {
      EXPECT_EQ(tensor.vanished, tensor.plan.name == name) << tensor.plan.name << ", " << name_of(method);
      EXPECT_EQ(to_json(report)["tensors"][static_cast<std::size_t>(&tensor - report.tensors.data())].contains("vanished"), tensor.vanished);
    }
    options.strict = options.plan.pure = true;
    try {
      quantize(model, options, report);
      FAIL() << name_of(method);
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(name + ": nothing but zeros is left of it in q4_0"), std::string::npos) << error.what();
    }
  }
}

TEST_F(Pipeline, GptqWantsTextAndSomethingToChoose) {
  options.calibration.clear();
  EXPECT_THROW(quantize(model, options, report), Error);
  options.calibration = chunks_of(model.config, 2, 1);
  options.plan.preset = &preset_from_name("f16");
  EXPECT_THROW(quantize(model, options, report), Error);
}

}  // namespace
}  // namespace attar
