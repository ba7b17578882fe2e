#include "quantize/runtimes.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

std::vector<Type> groups(bool affine, std::initializer_list<int> widths) {
  std::vector<Type> types;
  for (const int bits : widths)
    for (const int group : {128, 64, 32}) types.push_back(*group_type({affine, bits, group}));
  return types;
}

}  // namespace

const std::vector<Runtime>& all_runtimes() {
  static const std::vector<Runtime> runtimes = {
      {"llama.cpp-arm", {Type::kQ4_0, Type::kIQ4_NL, Type::kQ4_K, Type::kQ5_K, Type::kQ6_K, Type::kQ8_0}, true},
      {"kleidiai", {Type::kQ4_0, Type::kQ8_0}, true},
      {"hexagon", {Type::kQ4_0, Type::kIQ4_NL, Type::kQ4_1, Type::kQ8_0}, true},
      {"mlx", groups(true, {2, 3, 4, 5, 6, 8}), false},
      {"ort", groups(false, {2, 4, 8}), false},
  };
  return runtimes;
}

const Runtime& runtime_from_name(std::string_view name) {
  std::vector<std::string> names;
  for (const Runtime& runtime : all_runtimes()) {
    if (name == runtime.name) return runtime;
    names.emplace_back(runtime.name);
  }
  fail("--runtime ", name, ": unknown runtime", suggest(name, names));
}

bool is_fast(const Runtime& runtime, Type type) {
  return std::find(runtime.types.begin(), runtime.types.end(), type) != runtime.types.end();
}

std::string type_list(const std::vector<Type>& types) {
  std::string list;
  for (const Type type : types) list += cat(list.empty() ? "" : ",", info(type).name);
  return list;
}

}  // namespace attar
