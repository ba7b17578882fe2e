// A fuzzer's bytes as a file that can be mapped, and a loop body that expects nothing but Errors.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/console.h"
#include "base/error.h"

namespace attar::fuzz {

// A file in memory, named by its descriptor.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
    for (std::size_t done = 0; done < size;) {
      const ssize_t n = ::write(fd_, data + done, size - done);
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

// Runs work; an Error is a fine answer to bad input, anything else escapes and is a finding.
template <class Work>
int expect_only_errors(const Work& work) {
  set_verbosity(Verbosity::kQuiet);
  try {
    work();
  } catch (const Error&) {
  }
  return 0;
}

}  // namespace attar::fuzz
