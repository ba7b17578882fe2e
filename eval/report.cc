// The printed table.
#include <cmath>
#include <cstdio>

#include "base/error.h"
#include "base/text.h"
#include "eval/metrics.h"

namespace attar {
namespace {

std::string fixed(double value, int decimals) {
  if (std::isnan(value)) return "?";
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

// One line: label, value, uncertainty. scale 100 turns shares into percent.
std::string line(const std::string& label, const Estimate& estimate, int decimals, double scale = 1, const char* unit = "") {
  char text[160];
  std::snprintf(text, sizeof text, "%-28s %12s ± %s%s\n", label.c_str(), fixed(estimate.value * scale, decimals).c_str(),
                fixed(estimate.uncertainty * scale, decimals).c_str(), unit);
  return text;
}

std::string ranks(const std::string& label, const Distribution& d, std::initializer_list<double> fractions, int decimals,
                  double scale, const char* unit) {
  std::string text = label;
  for (const double f : fractions) text += cat("  ", fixed(percentile(d.ascending, f) * scale, decimals), unit);
  return text + "\n";
}

std::string model_line(const char* label, const ModelSummary& model) {
  return cat(label, model.path, "  (", model.parameters, " parameters, ", size_text(model.tensor_bytes), ", ",
             fixed(8.0 * static_cast<double>(model.tensor_bytes) / static_cast<double>(model.parameters), 2),
             " bits per weight)\n");
}

// What was measured on the text.
std::string text_of(const EvalResult& result) {
  const Protocol& p = result.protocol;
  std::string text = cat("text       ", p.data, ": ", p.tokens, " tokens, ", p.chunks, p.name == "rolling" ? " windows of " : " chunks of ",
                         p.context, ", ", p.scored, " positions scored\n");
  if (p.reference_tokens > 0)
    text += cat("vocabulary the model's is a part of the reference's, for which the text has ", p.reference_tokens,
                " tokens;\n           compared with the reference given that the next token is one of the model's\n");
  text += "\n" + line("perplexity", result.perplexity, 4);
  if (result.rolling()) {
    text += line("perplexity per word", result.word_perplexity, 4);
    text += line("perplexity per byte", result.byte_perplexity, 5);
  }
  text += line("bits per byte", result.bits_per_byte, 4);
  if (result.divergence) {
    const Divergence& d = *result.divergence;
    text += line("perplexity of the reference", d.reference_perplexity, 4);
    text += line(p.reference_tokens > 0 ? "  its bits per byte, own tokens" : "bits per byte of the reference",
                 d.reference_bits_per_byte, 4);
    text += line("perplexity ratio", d.perplexity_ratio, 5);
    text += line("ln of the ratio", d.log_ratio, 5);
    text += line("perplexity difference", d.perplexity_difference, 5);
    text += line("mean KL divergence", d.kl.mean, 6);
    text += line("same top token", d.same_top, 3, 100, " %");
    text += line("accepted as a draft", d.acceptance, 3, 100, " %");
    text += cat("accepted of 4 and 8 drafted  ", std::string(6, ' '), fixed(d.expected_4, 3), ", ", fixed(d.expected_8, 3), "\n");
    text += line("mean change of p(token)", d.delta_p.mean, 3, 100, " %");
    text += line("RMS change of p(token)", d.delta_p_rms, 3, 100, " %");
    text += cat("correlation of ln PPL        ", std::string(d.correlation >= 0 ? 6 : 5, ' '),
                fixed(100 * d.correlation, 2), " %\n");
    text += "\npercentile         min      1       5       10      50      90      95      99      99.9    max\n";
    text += ranks("KL divergence", d.kl, {0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1}, 4, 1, "");
    text += ranks("change of p, %", d.delta_p, {0, 0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1}, 2, 100, "");
  }
  return text;
}

// A line per figure: value, error, and beside the reference's how many items only one of them got right and how likely that is.
std::string task_line(const TaskResult& task, const std::string& metric, const EvalResult& result) {
  const std::string name = cat("tasks.", task.name, ".", metric);
  const Samples& samples = result.samples.at(name);
  const bool percent = samples.binary();
  const double scale = percent ? 100 : 1;
  const Metric error = find_metric(name + "_stderr");
  std::string text = line(cat(task.name, " ", metric), {samples.value(), error.read(result)}, percent ? 2 : 4, scale, percent ? " %" : "");
  const auto found = result.reference_samples.find(name);
  if (found == result.reference_samples.end()) return text;
  text.pop_back();
  text += cat(", reference ", fixed(found->second.value() * scale, percent ? 2 : 4));
  if (percent) {
    const Discordance d = discordance(samples, found->second);
    text += cat("; ", d.lost, " lost, ", d.won, " won, p = ", fixed(mcnemar_p(d), 4));
  }
  return text + "\n";
}

}  // namespace

std::string table_text(const EvalResult& result) {
  const Protocol& p = result.protocol;
  std::string text = model_line("model      ", result.model);
  if (result.reference) text += model_line("reference  ", *result.reference);
  if (p.scored > 0) text += text_of(result);
  if (result.cloze) text += line(cat("cloze accuracy, ", result.cloze->items, " items"), result.cloze->accuracy, 2, 100, " %");
  for (const TaskResult& task : result.tasks) {
    text += cat("\ntask       ", task.name, ": ", task.items, " items (", task.kind, "), ", task.shots, " shots\n");
    for (const std::string& metric : task.metrics) text += task_line(task, metric, result);
  }
  return text;
}

}  // namespace attar
