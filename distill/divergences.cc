#include "distill/divergences.h"

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace attar {
namespace {

// ln(a exp(x) + b exp(y))
at::Tensor log_mix(double a, const at::Tensor& x, double b, const at::Tensor& y) {
  return at::logaddexp(x + std::log(a), y + std::log(b));
}

at::Tensor forward_kl(double, at::Tensor& log_p, at::Tensor& log_q) {
  const at::Tensor p = log_p.exp();
  const at::Tensor D = log_p.sub_(log_q).mul_(p).sum(-1);
  at::neg_out(log_p, p);
  return D;
}

at::Tensor reverse_kl(double, at::Tensor& log_p, at::Tensor& log_q) {
  const at::Tensor q = log_q.exp();
  at::sub_out(log_p, log_q, log_p).mul_(q);
  return log_p.sum(-1);
}

// dD/dq = (1 - beta) (ln(q / m) + 1 - m / m): the two parts' inner derivatives cancel.
at::Tensor jsd(double beta, at::Tensor& log_p, at::Tensor& log_q) {
  const at::Tensor log_m = log_mix(beta, log_p, 1 - beta, log_q), q = log_q.exp();
  const at::Tensor of_p = (log_p.exp() * (log_p - log_m)).sum(-1);
  at::sub_out(log_p, log_q, log_m).mul_(q).mul_(1 - beta);
  return beta * of_p + log_p.sum(-1);
}

at::Tensor skew_kl(double alpha, at::Tensor& log_p, at::Tensor& log_q) {
  const at::Tensor log_m = log_mix(alpha, log_p, 1 - alpha, log_q), p = log_p.exp();
  const at::Tensor D = (p * (log_p - log_m)).sum(-1);
  at::mul_out(log_p, p, log_q.sub_(log_m).exp_()).mul_(alpha - 1);
  return D;
}

at::Tensor skew_reverse_kl(double alpha, at::Tensor& log_p, at::Tensor& log_q) {
  const at::Tensor log_m = log_mix(1 - alpha, log_p, alpha, log_q), q = log_q.exp();
  const at::Tensor difference = log_q.sub_(log_m);  // ln(q / m)
  const at::Tensor D = (q * difference).sum(-1);
  at::mul_out(log_p, q, difference - alpha * difference.exp());
  return D;
}

at::Tensor total_variation(double, at::Tensor& log_p, at::Tensor& log_q) {
  const at::Tensor q = log_q.exp(), difference = q - log_p.exp();
  at::mul_out(log_p, q, difference.sign()).mul_(0.5);
  return 0.5 * difference.abs().sum(-1);
}

struct Entry {
  Measure measure;
  const char* name;
  const char* help;
  const char* parameter;  // its name, or nullptr
  double usual;           // its default
  at::Tensor (*compute)(double parameter, at::Tensor& log_p, at::Tensor& log_q);
};

constexpr Entry kTable[] = {
    {Measure::kForwardKl, "forward_kl", "KL(teacher || student)", nullptr, 0, forward_kl},
    {Measure::kReverseKl, "reverse_kl", "KL(student || teacher)", nullptr, 0, reverse_kl},
    {Measure::kJsd, "jsd", "generalised Jensen-Shannon", "beta", 0.5, jsd},
    {Measure::kSkewKl, "skew_kl", "KL(teacher || mix with the student)", "alpha", 0.1, skew_kl},
    {Measure::kSkewReverseKl, "skew_reverse_kl", "KL(student || mix with the teacher)", "alpha", 0.1, skew_reverse_kl},
    {Measure::kTotalVariation, "tvd", "half the sum of |differences|", nullptr, 0, total_variation},
};

const Entry& entry_of(Measure measure) {
  for (const Entry& entry : kTable)
    if (entry.measure == measure) return entry;
  fail("[distill] no such measure");
}

}  // namespace

Divergence parse_divergence(const std::string& text) {
  const auto colon = text.find(':');
  const std::string name = text.substr(0, colon);
  std::vector<std::string> names;
  for (const Entry& entry : kTable) {
    names.emplace_back(entry.name);
    if (name != entry.name) continue;
    if (colon == std::string::npos) return {entry.measure, entry.usual};
    if (entry.parameter == nullptr) fail("[distill] loss '", text, "': ", name, " takes no parameter");
    const std::string number = text.substr(colon + 1);
    char* end = nullptr;
    const double value = std::strtod(number.c_str(), &end);
    if (number.empty() || *end != '\0' || !(value > 0 && value < 1))
      fail("[distill] loss '", text, "': ", entry.parameter, " is '", number, "'; it must be a number between 0 and 1, both excluded",
           entry.measure == Measure::kJsd ? " (the ends are forward_kl and reverse_kl)" : "");
    return {entry.measure, value};
  }
  fail("[distill] no loss '", name, "'", suggest(name, names), "; there are ", divergence_help());
}

std::string divergence_text(const Divergence& divergence) {
  const Entry& entry = entry_of(divergence.measure);
  return entry.parameter == nullptr ? std::string(entry.name) : cat(entry.name, ":", divergence.parameter);
}

std::string divergence_help() {
  std::string text;
  for (const Entry& entry : kTable) {
    text += cat(text.empty() ? "" : ", ", entry.name);
    if (entry.parameter != nullptr) text += cat("[:", entry.parameter, "=", entry.usual, "]");
    text += cat(" ", entry.help);
  }
  return text;
}

at::Tensor divergence_and_slope(const Divergence& divergence, at::Tensor& log_p, at::Tensor& log_q) {
  return entry_of(divergence.measure).compute(divergence.parameter, log_p, log_q);
}

}  // namespace attar
