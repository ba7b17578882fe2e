#include "base/data.h"

#include <array>
#include <cstdlib>

#include "base/error.h"

namespace attar {

namespace fs = std::filesystem;

fs::path find_data(const std::string& name) {
  std::error_code ignored;
  const char* chosen = std::getenv("ATTAR_DATA");
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  const std::array<fs::path, 4> places = {chosen != nullptr ? fs::path(chosen) : fs::path(),
                                          program.parent_path() / "../share/attar",     // installed
                                          program.parent_path() / "../../share/attar",  // libexec/attar/attar-full
                                          program.parent_path() / "../.."};             // SOURCE/build/PRESET/attar
  std::string looked;
  for (const auto& place : places) {
    if (place.empty()) continue;
    if (fs::exists(place / name, ignored)) return (place / name).lexically_normal();
    looked += "\n  " + (place / name).lexically_normal().string();
  }
  fail("cannot find ", name, ", which comes with attar; set ATTAR_DATA to its folder. Looked at:", looked);
}

fs::path model_path(const std::string& name) {
  constexpr std::string_view kPrefix = "builtin:";
  if (!name.starts_with(kPrefix)) return name;
  if (name != "builtin:teacher") fail("unknown built-in model '", name, "'; there is builtin:teacher");
  return find_data("datasets/teacher");
}

}  // namespace attar
