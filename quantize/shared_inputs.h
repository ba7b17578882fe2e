// Linears in groups that are multiplied with the same input: queries, keys and values; gate and up.
#pragma once

#include <string>
#include <vector>

#include "quantize/presets.h"

namespace attar {

// names: of half a layer's weights, in the order their inputs come up; role_of(name): the Role of one.
template <class RoleOf>
std::vector<std::vector<std::string>> sharing_inputs(const std::vector<std::string>& names, const RoleOf& role_of) {
  std::vector<std::vector<std::string>> groups;
  for (const std::string& name : names) {
    if (groups.empty() || input_of(role_of(groups.back().front())) != input_of(role_of(name))) groups.emplace_back();
    groups.back().push_back(name);
  }
  return groups;
}

}  // namespace attar
