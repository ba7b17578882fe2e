// Reads the golden files of this folder; golden/README.md says how they were made.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "base/bytes.h"

namespace attar::test {

inline Bytes golden(const std::string& name) {
  const char* source = std::getenv("ATTAR_SOURCE");
  const std::string path = std::string(source != nullptr ? source : ".") + "/tests/kernels_ref/golden/" + name;
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("cannot open ", path, "; run the tests through ctest, or from the source folder");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

inline std::vector<float> read_floats(ByteReader& reader, std::size_t count) {
  std::vector<float> values(count);
  std::memcpy(values.data(), reader.take(count * 4, "floats").data(), count * 4);
  return values;
}

}  // namespace attar::test
