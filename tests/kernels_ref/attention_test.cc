#include "tests/kernels_ref/attention_check.h"

#include "tests/kernels_ref/with_variant.h"
#include "tests/support.h"

namespace attar {
namespace {

class Attention : public ::testing::TestWithParam<std::string> {
  const test::WithVariant with_{GetParam()};
};

TEST_P(Attention, IsTheSoftmaxOfTheScores) { EXPECT_EQ(test::wrong_attention(), ""); }
TEST_P(Attention, WidensEveryHalf) { EXPECT_EQ(test::wrong_widening(), ""); }

INSTANTIATE_TEST_SUITE_P(Variants, Attention, ::testing::ValuesIn(kernel_variants()), [](const auto& each) { return each.param; });

}  // namespace
}  // namespace attar
