// attar quantize on a small random model.
#pragma once

#include <string>

#include "base/files.h"
#include "tests/cli/random_model.h"
#include "tests/support.h"

namespace attar::test {

class QuantizeCommand : public ::testing::Test {
 protected:
  void SetUp() override { write_hf(random_model(), model_); }

  RunResult run(const std::string& options) { return run_on(model_, output_, options); }
  RunResult run_on(const fs::path& model, const fs::path& output, const std::string& options) {
    return run_attar("quantize " + model.string() + " -o " + output.string() + " " + options);
  }
  void expect_refused(const std::string& options, const std::string& message) {
    const RunResult result = run(options);
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_NE(result.output.find(message), std::string::npos) << result.output;
    expect_nothing_written();
  }
  void expect_nothing_written() {
    for (const auto& entry : fs::directory_iterator(folder_.path()))
      EXPECT_EQ(entry.path().filename().string().find("out"), std::string::npos) << entry.path();
  }

  TempFolder folder_;
  fs::path model_ = folder_ / "model", output_ = folder_ / "out.gguf";
};

}  // namespace attar::test
