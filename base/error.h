// Errors a user can act on, and the words they are made of.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace attar {

// Bad usage, input or environment: the program prints the message and exits with 2. The message names the operation,
// the subject, what was found, what was expected and, where it is known, the cure.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Ctrl-C or SIGTERM during long work. The program exits with 130 and has left no output that looks whole.
class Interrupted : public Error {
 public:
  using Error::Error;
};

// The disk does not take what is written: it is full, gone, or over a limit. The same command may succeed once there is room.
class WriteError : public Error {
 public:
  using Error::Error;
};

// An earlier run has left something that this one cannot or may not go on with. It is the user's to keep or remove.
class ResumeError : public Error {
 public:
  using Error::Error;
};

// "a", 1, 'b' -> "a1b"; everything that std::ostream prints.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(cat(parts...));
}

}  // namespace attar
