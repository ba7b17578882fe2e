#include <cstring>
#include <limits>

#include "tests/model/models.h"
#include "tests/support.h"

namespace attar {
namespace {

TEST(Weights, SurviveTheWayThroughACheckpoint) {
  const at::NoGradGuard no_grad;
  for (const Family family : {Family::kLlama, Family::kPhi3, Family::kGemma3}) {
    const auto decoder = test::tiny_decoder(test::tiny_config(family));
    const auto again = load_decoder(to_checkpoint(*decoder, {}));
    for (const auto& name : decoder->parameter_names())
      EXPECT_TRUE(decoder->parameter(name).equal(again->parameter(name))) << name;
  }
}

TEST(Weights, NotANumberIsRefusedByName) {
  const auto decoder = test::tiny_decoder(test::tiny_config(Family::kLlama));
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    Checkpoint checkpoint = to_checkpoint(*decoder, {});
    for (Tensor& tensor : checkpoint.tensors) {
      if (tensor.name != "model.layers.1.mlp.up_proj.weight") continue;
      QuantizedTensor data = read_packed(tensor);
      std::memcpy(data.bytes.data() + (5 * 24 + 3) * sizeof bad, &bad, sizeof bad);
      tensor = make_tensor(tensor.name, std::move(data));
    }
    try {
      load_decoder(checkpoint);
      FAIL() << "loaded";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("model.layers.1.mlp.up_proj.weight"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("row 5"), std::string::npos) << error.what();
    }
  }
}

TEST(Weights, DroppedParametersComeBack) {
  const at::NoGradGuard no_grad;
  const auto decoder = test::tiny_decoder(test::tiny_config(Family::kQwen2));
  const Checkpoint checkpoint = to_checkpoint(*decoder, {});
  const at::Tensor ids = test::random_ids(decoder->config(), 1, 5), before = decoder->forward(ids);
  for (const auto& name : decoder->parameter_names()) {
    drop_parameter(*decoder, name);
    EXPECT_EQ(decoder->parameter(name).numel(), 0);
  }
  for (const auto& name : decoder->parameter_names()) load_parameter(*decoder, checkpoint, name);
  EXPECT_TRUE(decoder->forward(ids).equal(before));
}

TEST(Weights, FreshOnesFollowTheSeedAndThePlan) {
  Decoder a(test::tiny_config(Family::kGemma3)), b(test::tiny_config(Family::kGemma3));
  initialise(a, 1), initialise(b, 1);
  for (const auto& name : a.parameter_names()) EXPECT_TRUE(a.parameter(name).equal(b.parameter(name))) << name;
  initialise(b, 2);
  EXPECT_FALSE(a.parameter("model.embed_tokens.weight").equal(b.parameter("model.embed_tokens.weight")));
  EXPECT_EQ(a.parameter("model.norm.weight").abs().max().item<float>(), 0.0f);  // stored as w - 1
  EXPECT_NEAR(a.parameter("model.embed_tokens.weight").std().item<double>(), 0.02, 0.002);
  EXPECT_NEAR(a.parameter("model.layers.0.mlp.down_proj.weight").std().item<double>(), 0.02 / std::sqrt(6.0), 0.001);
}

}  // namespace
}  // namespace attar
