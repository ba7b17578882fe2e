// What tests share: where data lies, temporary folders, and running the program.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.h"

namespace attar::test {

namespace fs = std::filesystem;

// A file or folder of the shared test data ($ATTAR_SHARED). Not part of the project: a test that needs it says
// SKIP_WITHOUT(shared("oracles/llama")) first.
inline fs::path shared(const std::string& name) {
  const char* root = std::getenv("ATTAR_SHARED");
  return fs::path(root != nullptr && *root != '\0' ? root : "../shared") / name;
}
#define SKIP_WITHOUT(path)                                                                   \
  do {                                                                                       \
    if (!std::filesystem::exists(path))                                                      \
      GTEST_SKIP() << "needs shared test data that is not here: " << (path).string();        \
  } while (false)

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

// A folder that is gone when the test ends.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (fs::temp_directory_path() / "attar-test-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() { fs::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// What the Error that `action` throws says; "no error" if it throws none.
inline std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

struct RunResult {
  int code = -1;
  std::string output;  // stdout and stderr together
};

inline RunResult run_shell(const std::string& command) {
  RunResult result;
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[4096];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.output.append(buffer, n);
  const int status = ::pclose(pipe);
  result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

// Runs `attar ARGUMENTS` through the shell.
inline RunResult run_attar(const std::string& arguments, const std::string& redirect = "2>&1") {
  const char* program = std::getenv("ATTAR_PROGRAM");
  return run_shell(std::string(program != nullptr ? program : "./attar") + " " + arguments + " " + redirect);
}

}  // namespace attar::test
