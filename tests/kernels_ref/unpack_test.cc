// Every variant unpacks to the bits of the reference's chunks.
#include <cstring>

#include "base/random.h"
#include "kernels_ref/variants.h"
#include "tests/kernels_ref/gridded_types.h"
#include "tests/kernels_ref/with_variant.h"
#include "tests/support.h"

namespace attar {
namespace {

class UnpackVariant : public ::testing::TestWithParam<std::string> {
  const test::WithVariant with_{GetParam()};
};

TEST_P(UnpackVariant, GivesTheReferencesBits) {
  Random random(3);
  for (const Type type : test::gridded_types()) {
    const Unpack wanted = unpack_of(type), unpack = active_variant().unpack(type);
    ASSERT_EQ(wanted == nullptr, unpack == nullptr);
    if (wanted == nullptr) continue;
    const std::size_t block = static_cast<std::size_t>(info(type).block_weights);
    for (std::size_t weights = block; weights <= 512; weights += block) {
      Bytes row(row_bytes(type, weights));  // nothing readable behind it
      for (std::byte& byte : row) byte = static_cast<std::byte>(random.below(124));  // no scale is NaN
      for (std::size_t first = 0; first < weights; first += 256) {
        const std::size_t count = std::min<std::size_t>(256, weights - first);
        Chunk a, b;
        std::memset(&a, 1, sizeof(a)), std::memset(&b, 2, sizeof(b));
        wanted(row.data(), first, count, a), unpack(row.data(), first, count, b);
        EXPECT_EQ(std::memcmp(a.codes, b.codes, sizeof(a.codes)), 0) << info(type).name << ", " << count << " weights";
        for (std::size_t g = 0; g < 16; ++g) {
          EXPECT_EQ(a.scale[g], b.scale[g]) << info(type).name << ", " << count << " weights, group " << g;
          EXPECT_EQ(a.offset[g], b.offset[g]) << info(type).name << ", " << count << " weights, group " << g;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, UnpackVariant, ::testing::ValuesIn(kernel_variants()), [](const auto& each) { return each.param; });

}  // namespace
}  // namespace attar
