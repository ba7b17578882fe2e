// What the program has taken of the machine's memory.
#pragma once

#include <cstdint>

namespace attar {

std::uint64_t peak_memory();  // largest resident set so far, bytes; pages of mapped files count while they are in

}  // namespace attar
