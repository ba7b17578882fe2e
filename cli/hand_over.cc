#include "cli/hand_over.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/console.h"
#include "base/error.h"

namespace attar::cli {
namespace {

namespace fs = std::filesystem;
constexpr const char* kFull = "attar-full";

fs::path full_program() {
  std::error_code ignored;
  const fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path built = folder / kFull, installed = (folder / "../libexec/attar" / kFull).lexically_normal();
  for (const fs::path& place : {built, installed})
    if (fs::exists(place, ignored)) return place;
  fail("this needs LibTorch, and the program that has it is missing: neither ", built.string(), " nor ", installed.string(),
       " is there; install attar anew, or build its target attar-full");
}

}  // namespace

void hand_over(const std::vector<std::string>& arguments) {
  check_interrupt();
  const std::string program = full_program().string();
  std::vector<std::string> words = {"attar"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  // Behind a product OpenBLAS's threads look for the next one for 2^26 cycles, if nothing else is said, on cores that by then the kernels'
  // own threads want: 2^18 are longer than it is between the products of a layer.
  constexpr int kKeep = 0;
  ::setenv("OPENBLAS_THREAD_TIMEOUT", "18", kKeep);
  ::execv(program.c_str(), argv.data());
  fail("cannot run ", program, ": ", std::strerror(errno), "; install attar anew, or build its target attar-full");
}

}  // namespace attar::cli
