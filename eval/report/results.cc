#include "eval/report/results.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "eval/report/numbers.h"

namespace attar {
namespace {

// The last `parts` components of a path.
std::string end_of(const std::string& path, int parts) {
  std::size_t begin = path.size();
  while (begin > 0 && path[begin - 1] == '/') --begin;
  for (; begin > 0; --begin)
    if (path[begin - 1] == '/' && --parts == 0) break;
  return path.substr(begin);
}

std::string short_name(const std::string& path, const std::vector<ReportedModel>& models) {
  for (int parts = 1;; ++parts) {
    const std::string name = end_of(path, parts);
    const auto same = std::count_if(models.begin(), models.end(), [&](const ReportedModel& one) { return end_of(one.path, parts) == name; });
    if (same == 1 || name == path) return name;
  }
}

// Four digits, or as many as tell it from the bound.
std::string told_apart(double value, std::optional<double> bound) {
  int digits = 4;
  while (bound && value != *bound && digits < 17 && rounded(value, digits) == rounded(*bound, digits)) ++digits;
  return rounded(value, digits);
}

}  // namespace

bool ReportedProtocol::operator==(const ReportedProtocol& other) const { return difference(other).empty(); }

std::string ReportedProtocol::difference(const ReportedProtocol& other) const {
  std::string text;
  const auto add = [&](const char* what, const auto& here, const auto& there) {
    if (here != there) text += cat(text.empty() ? "" : "; ", what, " ", here, " against ", there);
  };
  add("protocol", name, other.name);
  if (data_hash != other.data_hash) add("text", cat(data, " (hash ", data_hash, ")"), cat(other.data, " (hash ", other.data_hash, ")"));
  add("tokenizer", tokenizer_hash, other.tokenizer_hash);
  add("context", context, other.context);
  add("chunks", chunks, other.chunks);
  add("positions", scored, other.scored);
  const auto how = [](bool on_kernels) -> std::string { return on_kernels ? "on the kernels" : "in floats (--float)"; };
  if (scored > 0) add("quantized models", how(packed), how(other.packed));
  for (const auto& [task, hash] : tasks)
    if (const auto there = other.tasks.find(task); there != other.tasks.end() && there->second != hash) add(("task " + task).c_str(), hash, there->second);
  return text;
}

std::string ReportedCheck::text() const {
  const std::string why = note.empty() ? "" : cat(" (", note, ")");
  if (!value) return cat(metric, " is not known", why);
  const std::string found = cat(metric, " is ", told_apart(*value, !max ? min : max));
  if (!rule.empty()) return cat(found, "; its bound: ", rule, why);
  if (max && *value > *max) return cat(found, ", above ", exact(*max), why);
  if (min && *value < *min) return cat(found, ", below ", exact(*min), why);
  return found + why;
}

const ReportedModel& Report::model(const std::string& path) const {
  for (const ReportedModel& one : models)
    if (one.path == path) return one;
  fail("report: nothing is known of ", path);
}

void finish(Report& report) {
  for (ReportedModel& model : report.models) model.name = short_name(model.path, report.models);
  // A run and a comparison repeat what evaluations say in full.
  std::vector<ReportedEvaluation> kept;
  for (const ReportedEvaluation& one : report.evaluations)
    if (!one.repeats || std::none_of(report.evaluations.begin(), report.evaluations.end(), [&](const ReportedEvaluation& other) {
          return !other.repeats && other.model == one.model && (!one.protocol || one.protocol == other.protocol);
        }))
      kept.push_back(one);
  report.evaluations = std::move(kept);
  for (ReportedSample& sample : report.samples)
    for (auto& [who, text] : sample.answers)
      for (const ReportedModel& model : report.models)
        if (model.path == who) who = model.role.empty() ? model.name : model.role;
  std::erase_if(report.tensors, [](const TensorTable& table) { return table.tensors.empty(); });
}

}  // namespace attar
