// Which types a runtime multiplies by fast. docs/methods/allocation.md names the sources.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernels_ref/types.h"

namespace attar {

struct Runtime {
  const char* name;          // as in --runtime: "kleidiai"
  std::vector<Type> types;   // ascending in bits
  bool gguf;                 // reads a .gguf; else a folder of plain groups
};

const std::vector<Runtime>& all_runtimes();
// Throws Error with the nearest name.
const Runtime& runtime_from_name(std::string_view name);
bool is_fast(const Runtime& runtime, Type type);
std::string type_list(const std::vector<Type>& types);  // "q4_0,q8_0"

}  // namespace attar
