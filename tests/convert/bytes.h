// Files made of bytes, and what reading them says.
#pragma once

#include <cstring>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "tests/support.h"

namespace attar::test {

inline void put(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

#define EXPECT_ERROR(work, part)                                               \
  do {                                                                         \
    const std::string said = ::attar::test::error_of([&] { work; });           \
    EXPECT_NE(said.find(part), std::string::npos) << "said: '" << said << "'"; \
  } while (false)

template <class T>
std::string le(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

}  // namespace attar::test
