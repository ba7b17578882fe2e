// quantize() that goes on with what an earlier run has finished.
#include <functional>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "tests/quantize/small_model.h"
#include "tests/support.h"

namespace attar {
namespace {

using test::all_bytes;
class PipelineResume : public test::SmallModel {};

// A run that was killed after any of its parts: the parts that follow are gone, and those hidden states are there that were then.
TEST_F(PipelineResume, GivesTheSameBytesAndReport) {
  for (const Family family : {Family::kLlama, Family::kGemma3}) {
    for (const auto& [method, more] : {std::pair(Method::kGptq, false), {Method::kGptq, true}, {Method::kRtn, false}}) {
      SCOPED_TRACE(cat(info(family).model_type, " ", name_of(method), more ? ", fisher and autoround" : ""));
      make(family);
      const test::TempFolder folder;
      options.method = method;
      options.fisher = options.autoround = more;
      options.rounding.steps = 5;
      options.folder = fs::path();
      const std::vector<Bytes> expected = all_bytes(quantize(model, options, report));
      const QuantizeReport once = report;
      options.folder = folder / "out.quantizing", options.resume = false;
      EXPECT_EQ(all_bytes(quantize(model, options, report)), expected);
      options.resume = true;
      const std::string last = cat("layer-", model.config.layers - 1, ".part");
      for (const std::vector<std::string>& lost : {std::vector<std::string>{}, {"output.weight.part"}, {"output.weight.part", last}}) {
        for (const std::string& part : lost) fs::remove(options.folder / part);
        EXPECT_EQ(all_bytes(quantize(model, options, report)), expected) << lost.size();
        EXPECT_EQ(report.layer_error, once.layer_error);
        for (std::size_t i = 0; i < once.tensors.size(); ++i) {
          EXPECT_EQ(report.tensors[i].weight_error, once.tensors[i].weight_error);
          EXPECT_EQ(report.tensors[i].output_error, once.tensors[i].output_error);
          EXPECT_EQ(report.tensors[i].damping, once.tensors[i].damping);
        }
      }
    }
  }
}

TEST_F(PipelineResume, RefusesAnotherRunAndDamage) {
  const test::TempFolder folder;
  options.folder = folder / "out.quantizing";
  quantize(model, options, report);
  const auto refusal = [&](const QuantizeOptions& changed) {
    QuantizeOptions again = changed;
    again.resume = true;
    try {
      quantize(model, again, report);
    } catch (const ResumeError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const auto expect_named = [&](const std::string& name, const std::function<void(QuantizeOptions&)>& change) {
    QuantizeOptions changed = options;
    change(changed);
    EXPECT_NE(refusal(changed).find("is of another run: " + name + " was "), std::string::npos) << refusal(changed);
  };
  expect_named("--damp", [](QuantizeOptions& o) { o.gptq.damping = 0.2; });
  expect_named("--pure", [](QuantizeOptions& o) { o.plan.pure = true; });
  expect_named("--override", [](QuantizeOptions& o) { o.plan.overrides.push_back(parse_override("lm_head=f16")); });
  expect_named("--type", [](QuantizeOptions& o) { o.plan.preset = &preset_from_name("q8_0"); });
  expect_named("--method", [](QuantizeOptions& o) { o.method = Method::kRtn; });
  expect_named("--method", [](QuantizeOptions& o) { o.scaled = true; });
  expect_named("--samples", [](QuantizeOptions& o) { o.calibration.pop_back(); });
  expect_named("the calibration text", [](QuantizeOptions& o) { std::swap(o.calibration[0], o.calibration[1]); });
  {
    const Checkpoint before = model;
    make(Family::kLlama);
    Tensor& norm = model.tensors.back();
    std::vector<float> values = read_floats(norm);
    values[0] += 1;
    norm = make_tensor(norm.name, norm.shape, std::move(values));
    expect_named("the model", [&](QuantizeOptions& o) { o.folder = folder / "out.quantizing"; });
    model = before;
  }
  fs::remove(options.folder / "output.weight.part");
  const fs::path hidden = options.folder / cat("hidden-", model.config.layers);
  std::string bytes = read_text_file(hidden);
  bytes[1000] = static_cast<char>(bytes[1000] ^ 1);
  write_text_file(hidden, bytes);
  EXPECT_NE(refusal(options).find("hidden-3 is damaged; remove the folder"), std::string::npos) << refusal(options);
  fs::resize_file(hidden, 1000);
  EXPECT_NE(refusal(options).find("hidden-3 is damaged; remove the folder"), std::string::npos) << refusal(options);
  fs::remove(hidden);
  EXPECT_NE(refusal(options).find("hidden-3 is missing; remove the folder"), std::string::npos) << refusal(options);
}

}  // namespace
}  // namespace attar
