// attar distill on a tiny model and a small text.
#pragma once

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "base/files.h"
#include "tests/cli/tiny_model.h"
#include "tests/support.h"

namespace attar::test {

class DistillCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    write_tiny_folder(folder_ / "fresh");
    write_text_file(folder_ / "train.txt", tiny_text(2000, 1));
    write_text_file(folder_ / "held.txt", tiny_text(200, 2));
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // Everything but the models and the output.
  std::string with(const std::string& more) const {
    return "distill --data " + path("train.txt") + " --batch 4 --context 32 --threads 1 " + more;
  }
  bool exists(const std::string& name) const { return fs::exists(folder_ / name); }
  std::string bytes(const std::string& name) const { return read_text_file(folder_ / name); }
  nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(bytes(name)); }
  std::vector<nlohmann::json> lines(const std::string& name) const {
    std::istringstream in(bytes(name));
    std::vector<nlohmann::json> all;
    for (std::string line; std::getline(in, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }

  TempFolder folder_;
};

}  // namespace attar::test
