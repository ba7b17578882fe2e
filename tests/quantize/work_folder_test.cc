#include "quantize/work_folder.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/support.h"

namespace attar {
namespace {

class Folder : public ::testing::Test {
 protected:
  std::string refusal(const nlohmann::json& run, bool resume) {
    try {
      const WorkFolder folder(path_, run, resume);
      if (folder.find("layer-0")) return "found";
    } catch (const ResumeError& error) {
      return error.what();
    }
    return "";
  }
  void store() {
    const WorkFolder folder(path_, run_, false);
    folder.store("layer-0", {{"W", data_}}, {{"note", 0.1}});
  }
  test::TempFolder temporary_;
  fs::path path_ = temporary_ / "out.gguf.quantizing";
  nlohmann::json run_ = {{"--type", "q8_0"}, {"the model", "abc"}};
  QuantizedTensor data_{Type::kQ8_0, {3, 32}, Bytes(3 * 34, std::byte{7})};
};

TEST_F(Folder, GivesBackWhatWasStored) {
  store();
  const auto part = WorkFolder(path_, run_, true).find("layer-0");
  ASSERT_TRUE(part);
  EXPECT_EQ(part->notes, (nlohmann::json{{"note", 0.1}}));
  ASSERT_EQ(part->tensors.size(), 1u);
  EXPECT_EQ(part->tensors[0].name, "W");
  EXPECT_EQ(part->tensors[0].shape, data_.shape);
  EXPECT_EQ(read_packed(part->tensors[0]).bytes, data_.bytes);
  EXPECT_EQ(finished_parts(path_), 1);
  EXPECT_FALSE(WorkFolder(path_, run_, true).find("layer-1"));
}

TEST_F(Folder, IsRefusedWithoutResumeAndToAnotherRun) {
  store();
  EXPECT_NE(refusal(run_, false).find("add --resume"), std::string::npos);
  nlohmann::json other = run_;
  other["--type"] = "q4_0";
  EXPECT_NE(refusal(other, true).find("--type was \"q8_0\", now it is \"q4_0\"; ask for the same, or remove"), std::string::npos)
      << refusal(other, true);
  EXPECT_EQ(refusal(run_, true), "found");
}

TEST_F(Folder, OfSomethingElseIsLeftAlone) {
  fs::create_directory(path_);
  write_text_file(path_ / "thesis.txt", "years of work");
  EXPECT_NE(refusal(run_, true).find("not as what an interrupted run leaves"), std::string::npos) << refusal(run_, true);
  write_text_file(path_ / "run.json", "{\"version\": 1");
  EXPECT_NE(refusal(run_, true).find("run.json is damaged"), std::string::npos) << refusal(run_, true);
  EXPECT_EQ(read_text_file(path_ / "thesis.txt"), "years of work");
}

// Cut off at every length, and with every byte changed in turn.
TEST_F(Folder, DamageIsNoticed) {
  store();
  const fs::path file = path_ / "layer-0.part";
  const std::string whole = read_text_file(file);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    std::string bad = whole;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    write_text_file(file, bad);
    EXPECT_NE(refusal(run_, true).find("layer-0.part is damaged; remove the folder"), std::string::npos) << i;
    if (i == 0) continue;  // an empty file cannot be mapped, and rename leaves none
    write_text_file(file, whole.substr(0, i));
    EXPECT_NE(refusal(run_, true).find("layer-0.part is damaged; remove the folder"), std::string::npos) << i;
  }
}

}  // namespace
}  // namespace attar
