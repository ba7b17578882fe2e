// attar compare: models, or results of them, in one table.
#include <algorithm>
#include <iostream>
#include <memory>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "cli/command.h"
#include "cli/compare.h"
#include "convert/checkpoint.h"
#include "eval/report/digest.h"
#include "eval/report/evidence.h"

namespace attar::cli {
namespace {

struct CompareOptions {
  Common common;
  std::vector<std::string> subjects;
  EvalOptions measuring;
  bool markdown = false, mixed = false;
  const CLI::App* app = nullptr;  // knows which options were given
};

bool is_result(const std::string& subject) { return fs::path(subject).extension() == ".json"; }

void measure(Report& report, const std::string& model, const CompareOptions& options) {
  EvalOptions measuring = options.measuring;
  measuring.model = model;
  measuring.cloze_items = 0;  // too slow for a look
  if (measuring.reference == model) measuring.reference.clear();
  add_result(report, measure_model(measuring), model);
}

Report gather(const CompareOptions& options) {
  Report report;
  if (options.subjects.size() < 2) fail("compare: give two models or results of --json at least");
  std::vector<std::string> models;
  for (const std::string& subject : options.subjects) {
    if (std::count(options.subjects.begin(), options.subjects.end(), subject) > 1) fail("compare: ", subject, " is given twice");
    if (is_result(subject)) continue;
    open_checkpoint(subject);
    models.push_back(subject);
  }
  if (!models.empty() && options.measuring.data.empty())
    fail("compare: ", models.front(), " is a model, which has to be measured first; give --data TEXT");
  for (const char* name : {"--data", "--reference", "--context", "--chunks", "--device"})
    if (models.empty() && options.app->count(name) > 0) fail("compare: ", name, " is for models, and only results were given; leave it out");
  for (const std::string& subject : options.subjects)
    if (is_result(subject)) add_file(report, subject);
  for (const std::string& model : models) measure(report, model, options);
  finish(report);
  return report;
}

// Figures of other text, another tokenizer or another protocol do not stand in one table.
void require_comparable(const std::vector<Group>& groups, bool mixed) {
  if (groups.size() < 2) return;
  const ReportedEvaluation &a = *groups[0].evaluations.front(), &b = *groups[1].evaluations.front();
  const std::string why = a.protocol && b.protocol ? a.protocol->difference(*b.protocol) : "one of them does not tell its protocol";
  const std::string message = cat("compare: ", a.file, " and ", b.file, " were not measured alike: ", why);
  if (!mixed) fail(message, "; measure them alike, or give --mixed for a table each");
  warn(message + "; figures of different tables cannot be compared");
}

// As eval's own "confidence" has it.
nlohmann::json to_json(const std::string& metric, const ReportedConfidence& sure) {
  nlohmann::json json;
  const auto put = [&](const char* where, const char* key, const std::optional<double>& value) {
    if (value) json[where][metric][key] = *value;
  };
  put("intervals", "n", sure.n), put("intervals", "low", sure.low), put("intervals", "high", sure.high);
  put("against_reference", "difference", sure.difference), put("against_reference", "low", sure.difference_low), put("against_reference", "high", sure.difference_high);
  put("against_reference", "p", sure.p), put("against_reference", "lost", sure.lost), put("against_reference", "won", sure.won);
  put("against_reference", "detectable", sure.detectable);
  return json;
}

nlohmann::json group_json(const Report& report, const Group& group, const std::vector<Differences>& differences) {
  nlohmann::json models = nlohmann::json::array();
  for (std::size_t i = 0; i < group.evaluations.size(); ++i) {
    const ReportedEvaluation* one = group.evaluations[i];
    const ReportedModel& model = report.model(one->model);
    nlohmann::json entry = {{"path", model.path}, {"from", one->file}};
    const auto put = [&](const char* key, const std::optional<double>& value) {
      if (value) entry[key] = *value;
    };
    if (!model.hash.empty()) entry["hash"] = model.hash;
    if (!one->reference.empty()) entry["reference"] = one->reference;
    put("parameters", model.parameters), put("tensor_bytes", model.weight_bytes), put("file_bytes", model.file_bytes);
    put("decode_tokens_per_second", model.decode_rate), put("prompt_tokens_per_second", model.prompt_rate);
    for (const auto& [name, metric] : one->metrics) {
      entry["metrics"][name]["value"] = metric.value;
      if (metric.uncertainty) entry["metrics"][name]["uncertainty"] = *metric.uncertainty;
    }
    for (const auto& [name, sure] : one->confidence) entry["confidence"].merge_patch(to_json(name, sure));
    for (const auto& [name, less] : differences[i]) entry["against_first"][name] = to_json(less, "first");
    models.push_back(std::move(entry));
  }
  nlohmann::json json = {{"models", std::move(models)}};
  if (const ReportedProtocol* p = group.protocol)
    json["protocol"] = {{"name", p->name},       {"data", p->data},     {"data_hash", p->data_hash}, {"tokenizer_hash", p->tokenizer_hash},
                        {"context", p->context}, {"chunks", p->chunks}, {"tokens_scored", p->scored}, {"packed", p->packed}, {"tasks", p->tasks}};
  return json;
}

int run_compare(const CompareOptions& options) {
  std::vector<std::string> inputs = options.subjects;
  inputs.insert(inputs.end(), {options.measuring.data, options.measuring.reference});
  refuse_overwriting("compare", inputs, {options.common.json});
  const Report report = gather(options);
  std::vector<Group> groups = groups_of(report);
  require_comparable(groups, options.mixed);
  if (groups.empty()) groups.emplace_back();
  nlohmann::json tables = nlohmann::json::array();
  for (const Group& group : groups) {
    Table table = model_table(report, group, &group == &groups.front());
    if (!group.evaluations.empty()) table.caption = cat("measured on ", describe(group), group.reference.empty() ? "" : cat("; divergence from ", group.reference));
    if (&group != &groups.front()) std::cout << "\n";
    const auto print = [&](const Table& shown) { std::cout << (options.markdown ? markdown(shown) : text(shown)); };
    print(table);
    const std::vector<Differences> differences = against_first(group, {.seed = options.common.seed});
    for (const Table& more : {confidence_table(report, group, true), difference_table(report, group, differences)}) {
      if (more.rows.empty()) continue;
      std::cout << "\n";
      print(more);
    }
    tables.push_back(group_json(report, group, differences));
  }
  write_result(options.common, "compare", {{"groups", std::move(tables)}});
  return kDone;
}

}  // namespace

void add_compare(CLI::App* sub) {
  auto options = std::make_shared<CompareOptions>();
  set_action(*sub, options->common, [options] { return run_compare(*options); });
  options->app = sub;
  EvalOptions& measuring = options->measuring;
  sub->add_option("subjects", options->subjects, "Models to measure, and results of eval, quantize, bench or run (.json)")->required()->type_name("A B...");
  sub->add_option("--data", measuring.data, "Text to measure models on: a file, or builtin:heldout");
  sub->add_option("--reference", measuring.reference, "Model that they are measured against");
  sub->add_option("--context", measuring.chunking.context, "Tokens per chunk; the second half is scored")->capture_default_str();
  sub->add_option("--chunks", measuring.chunking.chunks, "Use the first N chunks only; 0: all")->capture_default_str();
  sub->add_option("--device", measuring.device, "cpu, cuda or cuda:N")->capture_default_str();
  sub->add_flag("--markdown", options->markdown, "Print Markdown");
  sub->add_flag("--mixed", options->mixed, "Show results that were not measured alike, in a table each");
}

}  // namespace attar::cli
