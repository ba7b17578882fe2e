#include "distill/models.h"

#include "base/error.h"
#include "tests/datasets/small_tokenizers.h"
#include "tests/support.h"

namespace attar {
namespace {

LoadedModel with(TokenizerData tokenizer, std::uint64_t parameters = 10) {
  LoadedModel model;
  model.tokenizer = std::move(tokenizer);
  model.parameters = parameters;
  return model;
}

std::string refusal(const TokenizerData& student, const TokenizerData& teacher) {
  return test::error_of([&] { check_pair(with(student), with(teacher)); });
}

TEST(CheckPair, NamesTheFirstDifferenceOfTokenizers) {
  const TokenizerData same = test::small_byte_bpe();
  EXPECT_EQ(refusal(same, same), "no error");
  TokenizerData other = same;
  std::swap(other.tokens[97], other.tokens[98]);
  EXPECT_HAS(refusal(other, same), "token 97 is");
  other = same;
  test::add_special(other, "<|more|>");
  EXPECT_HAS(refusal(other, same), "the student has 264 tokens, the teacher 263; token 263 is '<|more|>' for one and none for the other");
  EXPECT_HAS(refusal(same, other), "token 263 is '<|more|>'");
  other = same;
  other.merges.pop_back();
  EXPECT_HAS(refusal(other, same), "the student has 5 merges, the teacher 6");
  std::swap(other.merges[0], other.merges[1]);
  EXPECT_HAS(refusal(other, same), "merge 0 joins 'l' and 'l' for the student, 'h' and 'e' for the teacher");
}

TEST(CheckPair, ALargerStudentIsAWarning) {
  testing::internal::CaptureStderr();
  check_pair(with(test::small_byte_bpe(), 11), with(test::small_byte_bpe(), 10));
  EXPECT_HAS(testing::internal::GetCapturedStderr(), "the student (11 parameters) is larger than its teacher (10)");
}

}  // namespace
}  // namespace attar
