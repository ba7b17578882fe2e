// A running program that is sent a signal once it has come far enough.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tests/support.h"

namespace attar::test {

// Starts the program, waits until `file` has more than `bytes` bytes (ten minutes at most, or its end), and sends `signal`. Returns the exit code, or
// 128 + the signal that ended it.
inline int interrupt(const std::string& arguments, const fs::path& file, std::uintmax_t bytes, int signal) {
  const char* program = std::getenv("ATTAR_PROGRAM");
  const std::string command = std::string("exec ") + (program != nullptr ? program : "./attar") + " " + arguments;
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", (command + " >/dev/null 2>&1").c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  pid_t ended = 0;
  for (int i = 0; i < 24000 && ended == 0; ++i) {  // ten minutes, on a machine with other work to do
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
    std::error_code error;
    const auto size = fs::file_size(file, error);
    if (!error && size > bytes) break;
    ended = ::waitpid(child, &status, WNOHANG);
  }
  if (ended == 0) {
    ::kill(child, signal);
    ::waitpid(child, &status, 0);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace attar::test
