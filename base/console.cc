#include "base/console.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iomanip>
#include <sstream>

#include "base/error.h"

namespace attar {
namespace {

Verbosity g_verbosity = Verbosity::kNormal;
volatile std::sig_atomic_t g_signal = 0;

extern "C" void on_signal(int number) {
  if (g_signal != 0) ::_exit(128 + number);
  g_signal = number;
}

void print(std::string_view prefix, std::string_view message) {
  std::fprintf(stderr, "%.*s%.*s\n", static_cast<int>(prefix.size()), prefix.data(), static_cast<int>(message.size()),
               message.data());
}

std::string clock_text(double seconds) {
  const auto whole = static_cast<long>(seconds + 0.5);
  char text[32];
  if (whole >= 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", whole / 3600, whole / 60 % 60, whole % 60);
  else
    std::snprintf(text, sizeof text, "%ld:%02ld", whole / 60, whole % 60);
  return text;
}

std::string rate_text(double rate) {
  std::ostringstream out;
  out << std::fixed;
  if (rate >= 1e6)
    out << std::setprecision(1) << rate / 1e6 << "M";
  else if (rate >= 1e3)
    out << std::setprecision(1) << rate / 1e3 << "k";
  else
    out << std::setprecision(rate < 10 ? 2 : 0) << rate;
  return out.str();
}

}  // namespace

void set_verbosity(Verbosity verbosity) { g_verbosity = verbosity; }
Verbosity verbosity() { return g_verbosity; }

void note(std::string_view message) {
  if (g_verbosity != Verbosity::kQuiet) print("", message);
}
void detail(std::string_view message) {
  if (g_verbosity == Verbosity::kVerbose) print("", message);
}
void warn(std::string_view message) { print("warning: ", message); }

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

void check_interrupt() {
  if (g_signal != 0) throw Interrupted("interrupted; nothing half-written was left behind");
}

Progress::Progress(std::string label, std::uint64_t total, std::string unit)
    : label_(std::move(label)), unit_(std::move(unit)), total_(total), start_(Clock::now()), shown_(start_),
      terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (done_ > 0) show(true);
}

void Progress::advance(std::uint64_t units, std::string_view extra) {
  check_interrupt();
  done_ += units;
  extra_ = extra;
  const auto interval = terminal_ ? std::chrono::milliseconds(200) : std::chrono::milliseconds(10'000);
  if (Clock::now() - shown_ >= interval) show(false);
}

void Progress::skip(std::uint64_t units) {
  done_ += units;
  skipped_ += units;
}

void Progress::show(bool final) {
  shown_ = Clock::now();
  if (g_verbosity == Verbosity::kQuiet) return;
  const double elapsed = std::chrono::duration<double>(shown_ - start_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done_ - skipped_) / elapsed : 0;
  std::ostringstream line;
  line << label_ << ' ';
  if (terminal_) {
    constexpr unsigned kWidth = 24;
    const auto filled = total_ == 0 ? kWidth : static_cast<unsigned>(kWidth * done_ / total_);
    line << '[';
    for (unsigned i = 0; i < kWidth; ++i) line << (i < filled ? '#' : '.');
    line << "] ";
  }
  line << done_ << '/' << total_ << ' ' << unit_ << ", " << rate_text(rate) << ' ' << unit_ << "/s, ";
  if (final)
    line << clock_text(elapsed) << " in all";
  else
    line << "ETA " << (rate > 0 ? clock_text(static_cast<double>(total_ - std::min(done_, total_)) / rate) : "?");
  if (!extra_.empty()) line << ", " << extra_;
  if (terminal_)
    std::fprintf(stderr, "\r\033[K%s%s", line.str().c_str(), final ? "\n" : "");
  else
    std::fprintf(stderr, "%s\n", line.str().c_str());
  std::fflush(stderr);
}

}  // namespace attar
