#include "distill/expected_uses.h"

#include <ATen/ATen.h>

#include <numeric>

#include "tests/distill/tiny.h"
#include "tests/support.h"

namespace attar {
namespace {

// Against all logits at once; the vocabulary so large that they come in more than one group of rows.
TEST(ExpectedUses, AreTheSumOfTheDistributions) {
  for (const std::int64_t vocabulary : {32, 40000}) {
    nlohmann::json json = test::tiny_json();
    json["vocab_size"] = vocabulary;
    const auto decoder = test::tiny_decoder(3, json);
    const at::NoGradGuard no_grad;
    auto generator = at::detail::createCPUGenerator(3);
    for (const auto& name : decoder->parameter_names())
      if (name.find("norm") == std::string::npos)
        decoder->parameter(name).copy_(at::randn(decoder->parameter(name).sizes(), generator) * 0.15);
    const auto chunks = test::tiny_ids(9, 21, 1);
    at::Tensor sum = at::zeros({vocabulary}, at::kDouble);
    for (const Ids& chunk : chunks)
      sum += at::softmax(decoder->forward(at::tensor(chunk).narrow(0, 0, 20).unsqueeze(0)).to(at::kDouble), -1).sum(at::IntArrayRef{0, 1});
    const std::vector<double> expected = expected_uses(*decoder, chunks, 8);
    ASSERT_EQ(std::ssize(expected), vocabulary);
    for (std::int64_t id = 0; id < vocabulary; ++id)
      ASSERT_NEAR(expected[static_cast<std::size_t>(id)] / sum[id].item<double>(), 1.0, 1e-5) << id;
    EXPECT_NEAR(std::accumulate(expected.begin(), expected.end(), 0.0), 9 * 20, 1e-3);
    EXPECT_HAS(test::error_of([&] { expected_uses(*decoder, {}, 8); }), "no calibration text");
  }
}

}  // namespace
}  // namespace attar
