// What the program has taken of the machine's memory.
#pragma once

#include <cstdint>

namespace attar {

std::uint64_t peak_memory();  // largest resident set so far, bytes; pages of mapped files count while they are in

// From here on the program keeps memory that it frees. For work that takes and frees large pieces again and again, as every training
// step does: giving them back and taking them anew costs a page fault for every 4 KiB. Does nothing without glibc.
void keep_freed_memory();

// Gives back what was freed so far and is still held, between pieces of work that need memory of other sizes. Does nothing without glibc.
void give_back_freed_memory();

}  // namespace attar
