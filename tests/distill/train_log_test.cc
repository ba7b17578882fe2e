#include "distill/train_log.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/files.h"
#include "tests/support.h"

namespace attar {
namespace {

TEST(TrainLog, GoesOnBehindTheStepThatIsKept) {
  const test::TempFolder folder;
  const std::string one = "{\"kind\":\"train\",  \"step\":1,\"loss\":2.50,\"time\":7}\n", two = "{\"kind\": \"eval\", \"step\": 2, \"kl\": 1}\n";
  const std::string all = one + two + "{\"kind\":\"train\",\"step\":3,\"loss\":1}\n{\"kind\":\"tra";
  write_text_file(folder / kTrainLog, all);
  std::ifstream before(folder / kTrainLog);
  TrainLog log(folder.path(), 2);
  EXPECT_EQ(read_text_file(folder / kTrainLog), one + two);  // to the byte
  std::stringstream old;
  old << before.rdbuf();
  EXPECT_EQ(old.str(), all) << "the old file must stay whole until the new one takes its place";
  log.add("train", 3, {{"loss", 0.5}});
  std::istringstream lines(read_text_file(folder / kTrainLog).substr(one.size() + two.size()));
  std::string line;
  ASSERT_TRUE(std::getline(lines, line));
  EXPECT_EQ(nlohmann::json::parse(line)["step"], 3);
  EXPECT_FALSE(std::getline(lines, line));
  const std::string events = read_text_file(folder / kEventFile);
  for (const char* name : {"train/loss", "eval/kl"}) EXPECT_NE(events.find(name), std::string::npos) << name;
}

TEST(TrainLog, BeginsEmpty) {
  const test::TempFolder folder;
  write_text_file(folder / kTrainLog, "{\"kind\": \"eval\", \"step\": 0}\n");
  { TrainLog log(folder.path(), 0); }
  EXPECT_NE(read_text_file(folder / kTrainLog), "");
  { TrainLog log(folder.path(), -1); }
  EXPECT_EQ(read_text_file(folder / kTrainLog), "");
}

}  // namespace
}  // namespace attar
