// The types that can be encoded, as parameters of tests, and their names.
#pragma once

#include <string>
#include <vector>

#include "kernels_ref/types.h"

namespace attar::test {

inline std::vector<Type> gridded_types() {
  std::vector<Type> types;
  for (const TypeInfo& entry : all_types())
    if (entry.grid.group != 0) types.push_back(entry.type);
  return types;
}

struct TypeName {
  template <class Param>
  std::string operator()(const Param& param) const { return info(param.param).name; }
};

}  // namespace attar::test
