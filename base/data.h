// Files that come with the program: the built-in teacher and the recipes.
#pragma once

#include <filesystem>
#include <string>

namespace attar {

// Finds `name` ("datasets/teacher", "recipes/demo.toml") in $ATTAR_DATA, beside the installed program (../share/attar) or in the
// source tree of a build. Throws Error with the places looked at.
std::filesystem::path find_data(const std::string& name);

// "builtin:teacher" becomes the path of the built-in teacher; any other model name is a path already.
std::filesystem::path model_path(const std::string& name);

}  // namespace attar
