// What a person sees while the program works: messages and progress on stderr, and the wish to stop.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace attar {

enum class Verbosity { kQuiet, kNormal, kVerbose };
void set_verbosity(Verbosity verbosity);
Verbosity verbosity();

void note(std::string_view message);    // stderr; silent with --quiet
void detail(std::string_view message);  // stderr; only with --verbose
void warn(std::string_view message);    // stderr as "warning: ..."; always

// Installs handlers for SIGINT and SIGTERM that only set a flag. A second signal ends the process at once.
void catch_interrupts();
// Throws Interrupted once a signal has come. Called by every long loop, at least a few times a second.
void check_interrupt();

// A progress line: a bar with rate and ETA on a terminal, a plain line every ten seconds elsewhere. Also checks for
// interruption. Thread-compatible: one thread updates it.
class Progress {
 public:
  // label: "gptq"; total: number of units of work; unit: "tokens", shown in the rate.
  Progress(std::string label, std::uint64_t total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(std::uint64_t units, std::string_view extra = {});  // extra: shown at the end of the line
  void skip(std::uint64_t units);  // done already, or of another kind: no part of the rate

 private:
  using Clock = std::chrono::steady_clock;
  void show(bool final);
  std::string label_, unit_, extra_;
  std::uint64_t total_, done_ = 0, skipped_ = 0;
  Clock::time_point start_, shown_;
  bool terminal_;
};

}  // namespace attar
