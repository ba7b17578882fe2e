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

// For slow tests: ggml's types, and of the plain groups each kind, width and length at least once.
inline std::vector<Type> sample_types() {
  std::vector<Type> types;
  for (const Type type : gridded_types())
    if (!group_format(type)) types.push_back(type);
  for (const char* name : {"int3_g32", "int4_g128", "int5_row", "affine2_g64", "affine4_row", "affine6_g32", "affine8_g64"})
    types.push_back(*type_from_name(name));
  return types;
}

struct TypeName {
  template <class Param>
  std::string operator()(const Param& param) const { return info(param.param).name; }
};

}  // namespace attar::test
