// Two programs make one tool. `attar` does without LibTorch, which takes longer to load than most commands take to run, and hands over
// to `attar-full` what needs it. The full program is all of the tool; the light one is the same but for what cli/light.cc lists.
#pragma once

#include <string>
#include <vector>

namespace attar::cli {

// Thrown by the light program where LibTorch is needed, before anything was read from standard input or written. Not an error: the full
// program then does the whole command.
struct NeedsTorch {};
void need_torch();  // throws it; does nothing in the full program

// Becomes the full program, with these arguments: process, environment, open files and signals to come are its own. It lies beside the
// light one as built, or in libexec/attar as installed. Throws Error if it does not, Interrupted if a signal has come.
[[noreturn]] void hand_over(const std::vector<std::string>& arguments);

}  // namespace attar::cli
