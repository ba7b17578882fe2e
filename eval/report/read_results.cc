// One reader for each command whose --json a report can use, in one table.
#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "base/error.h"
#include "base/files.h"
#include "base/text.h"
#include "eval/confidence.h"
#include "eval/report/reading.h"

namespace attar {
namespace {

using nlohmann::json;

// The entry of a model in the report; what is known of it already stays.
ReportedModel& model_of(Report& report, const std::string& path) {
  for (ReportedModel& one : report.models)
    if (one.path == path) return one;
  report.models.push_back({.path = path});
  return report.models.back();
}

void keep(std::optional<double>& known, const std::optional<double>& value) {
  if (!known) known = value;
}

// The path that a model goes by in the report: with a piece of its hash if another model has been at that path.
std::string known_as(Report& report, std::string path, const std::string& hash) {
  if (const std::string& known = model_of(report, path).hash; !known.empty() && !hash.empty() && known != hash) path = cat(path, " (", hash.substr(0, 8), ")");
  ReportedModel& model = model_of(report, path);
  if (model.hash.empty()) model.hash = hash;
  return path;
}

std::string read_model(Report& report, const JsonReader& from) {
  const std::string path = known_as(report, from.text("path"), from.text("hash", ""));
  ReportedModel& model = model_of(report, path);
  keep(model.parameters, number_in(from, "parameters"));
  keep(model.weight_bytes, number_in(from, "tensor_bytes"));
  return path;
}

// Numbers under dotted names: {"kl_divergence": {"mean": 1, "uncertainty": 2}} is kl_divergence.mean, with its error.
void flatten(const json& from, const std::string& name, std::map<std::string, Figure>& metrics) {
  constexpr std::size_t kLongestName = 200;  // no metric is nested deeper than this: it bounds the recursion
  for (const auto& [key, value] : from.items()) {
    if (value.is_object() && name.size() < kLongestName) flatten(value, name + key + ".", metrics);
    if (!value.is_number() || key.ends_with("uncertainty") || key.ends_with("_stderr")) continue;
    Figure figure{value.get<double>(), {}};
    const bool main = key == "value" || key == "mean" || key == "share" || key == "accuracy" || key == "rate";
    for (const std::string& error : {key + "_uncertainty", key + "_stderr", std::string(main ? "uncertainty" : "")})
      if (const auto found = from.find(error); !figure.uncertainty && found != from.end() && found->is_number())
        figure.uncertainty = found->get<double>();
    metrics[name + key] = figure;
  }
}

ReportedGate read_gate_verdict(const JsonReader& from) {
  ReportedGate gate{from.text("outcome"), {}};
  for_each_in(from, "checks", [&](const JsonReader& check) {
    gate.checks.push_back({check.text("metric"), check.text("outcome"), check.text("rule", ""), check.text("note", ""), number_in(check, "value"),
                           number_in(check, "min"), number_in(check, "max"), check.boolean("warning", false)});
  });
  return gate;
}

ReportedConfidence read_confidence(const JsonReader& interval, const JsonReader& difference) {
  return {number_in(interval, "n"),       number_in(interval, "low"),        number_in(interval, "high"),
          number_in(difference, "difference"), number_in(difference, "low"), number_in(difference, "high"),
          number_in(difference, "p"),     number_in(difference, "detectable"),
          number_in(difference, "lost"),  number_in(difference, "won")};
}

// "confidence" of a result of eval: intervals, and differences of those that the reference has too.
std::map<std::string, ReportedConfidence> read_confidences(const JsonReader& from) {
  std::map<std::string, ReportedConfidence> found;
  if (!from.has("intervals")) return found;
  const json none = json::object();
  const JsonReader intervals = from.object("intervals"), nothing(none, from.source());
  const JsonReader differences = from.has("against_reference") ? from.object("against_reference") : nothing;
  for (const auto& [metric, interval] : intervals.json().items())
    found[metric] = read_confidence(intervals.object(metric), differences.has(metric) ? differences.object(metric) : nothing);
  return found;
}

ReportedToken read_token(const JsonReader& from) {
  ReportedToken token{from.text("before"), from.text("token"), from.text("after"), from.text("top", ""), from.text("reference_top", ""), {}};
  for (const char* key : {"p", "reference_p", "kl"})
    if (const auto value = number_in(from, key)) token.figures[key] = *value;
  return token;
}

TensorTable& tensors_of(Report& report, const std::string& model, const std::string& file) {
  for (TensorTable& table : report.tensors)
    if (table.model == model) return table;
  report.tensors.push_back({.file = file, .model = model});
  return report.tensors.back();
}

void read_work(ReportedTensor& row, const JsonReader& from) {
  row.rounded_error = number_in(from, "rounded_error");
  row.clipped = number_in(from, "clipped");
  row.damping = number_in(from, "damping");
  row.dead_columns = number_in(from, "dead_columns");
  row.seconds = number_in(from, "seconds");
}

ReportedTensor& read_tensor(TensorTable& table, const JsonReader& from) {
  const std::string name = from.text("name");
  auto row = std::find_if(table.tensors.begin(), table.tensors.end(), [&](const ReportedTensor& one) { return one.name == name; });
  if (row == table.tensors.end()) row = table.tensors.insert(row, {.name = name});
  row->type = from.text("type");
  if (from.has("type_asked")) row->asked = from.text("type_asked");
  if (from.has("fallback")) row->fallback = from.text("fallback");
  if (from.has("method")) row->method = from.text("method");
  // On held-out text, from eval, rather than on calibration text, from quantize.
  const auto take = [&](std::optional<double>& known, std::string_view key) {
    if (const auto value = number_in(from, key); value && (!known || from.has("kl_divergence"))) known = value;
  };
  take(row->weight_error, "weight_error");
  take(row->output_error, "output_error");
  take(row->kl, "kl_divergence");
  take(row->share, "share");
  return *row;
}

void read_eval(Report& report, const JsonReader& from) {
  const JsonReader model = from.object("model");
  ReportedEvaluation evaluation{.file = from.source()};
  if (from.has("reference")) evaluation.reference = read_model(report, from.object("reference"));
  evaluation.model = read_model(report, model);
  evaluation.protocol = read_reported_protocol(from.object("protocol"));
  json figures = from.json();
  if (const auto tasks = figures.find("tasks"); tasks != figures.end() && tasks->is_object())
    for (auto& [name, task] : tasks->items())
      if (task.is_object())
        for (const char* setting : {"items", "shots", "context"}) task.erase(setting);
  for (const char* other : {"model", "reference", "protocol", "gate", "layers", "breakdown", "confidence", "samples"}) figures.erase(other);
  for (const auto& [key, value] : figures.items())
    if (value.is_object()) flatten(value, key + ".", evaluation.metrics);
  if (from.has("tasks"))
    for (const auto& [name, task] : from.object("tasks").json().items())
      if (const JsonReader one(task, cat(from.source(), ": tasks: ", name)); one.has("hash"))
        evaluation.protocol->tasks[name] = cat(one.text("hash"), one.boolean("bos", true) ? "" : " without BOS", ", context ", one.integer("context", 0, std::int64_t{1} << 53, 0));
  if (from.has("cloze") && from.object("cloze").has("hash")) evaluation.protocol->tasks["cloze"] = from.object("cloze").text("hash");
  if (from.has("confidence")) evaluation.confidence = read_confidences(from.object("confidence"));
  if (from.has("samples"))
    for (const JsonReader samples = from.object("samples"); const auto& [name, of] : samples.json().items()) evaluation.samples[name] = read_samples(samples.object(name));
  if (from.has("breakdown")) {
    const JsonReader breakdown = from.object("breakdown");
    for_each_in(breakdown, "worst_tokens", [&](const JsonReader& one) { evaluation.worst_tokens.push_back(read_token(one)); });
    for_each_in(breakdown, "by_place", [&](const JsonReader& one) {
      evaluation.by_place.push_back({one.number("from", 0, kAny), one.number("to", 0, kAny), one.number("nll", -kAny, kAny), number_in(one, "kl")});
    });
    for_each_in(breakdown, "by_unit", [&](const JsonReader& one) {
      evaluation.by_unit.push_back({one.number("unit", 0, kAny), one.number("scored", 0, kAny), one.number("nll", -kAny, kAny), number_in(one, "reference_nll"),
                                    number_in(one, "kl"), one.text("begins", "")});
    });
  }
  if (from.has("gate")) evaluation.gate = read_gate_verdict(from.object("gate"));
  if (from.has("layers")) {
    const JsonReader layers = from.object("layers");
    TensorTable& table = tensors_of(report, evaluation.model, from.source());
    table.kl_sum = number_in(layers, "kl_sum");
    table.kl_together = number_in(layers, "kl_together");
    table.separable = layers.boolean("separable", true);
    for_each_in(layers, "tensors", [&](const JsonReader& one) { read_tensor(table, one); });
  }
  report.evaluations.push_back(std::move(evaluation));
}

void read_quantize(Report& report, const JsonReader& from) {
  const std::string path = known_as(report, from.text("output"), from.text("output_hash", ""));
  ReportedModel& model = model_of(report, path);
  keep(model.file_bytes, number_in(from, "bytes"));
  TensorTable& table = tensors_of(report, model.path, from.source());
  for_each_in(from, "tensors", [&](const JsonReader& one) { read_work(read_tensor(table, one), one); });
  if (from.has("sums")) {
    const JsonReader sums = from.object("sums");
    table.sums = ReportedTensor{.name = "all", .weight_error = number_in(sums, "weight_error"), .output_error = number_in(sums, "output_error")};
    read_work(*table.sums, sums);
  }
  if (!from.has("allocation")) return;
  SizeCurve curve{.file = from.source()};
  const auto read_points = [&](const char* key, std::vector<SizeCurve::Point>& points) {
    for_each_in(from.object("allocation"), key, [&](const JsonReader& one) {
      points.push_back({one.number("bytes", 0, kAny), one.number("expected_kl", -kAny, kAny), number_in(one, "measured_kl"), one.boolean("chosen", false)});
    });
  };
  read_points("curve", curve.points);
  read_points("trials", curve.trials);
  report.curves.push_back(std::move(curve));
}

void read_student(Report& report, const JsonReader& from) {
  const std::string path = known_as(report, from.text("output"), from.text("output_hash", ""));
  keep(model_of(report, path).parameters, number_in(from, "parameters"));
}

// Texts of the same words, asked for alike, stand side by side.
void add_sample(Report& report, const std::string& prompt, const std::string& how, const std::string& who, const std::string& text) {
  const auto found = std::find_if(report.samples.begin(), report.samples.end(), [&](const ReportedSample& one) {
    return one.prompt == prompt && one.how == how && std::none_of(one.answers.begin(), one.answers.end(), [&](const auto& answer) { return answer.first == who; });
  });
  ReportedSample& sample = found != report.samples.end() ? *found : report.samples.emplace_back(ReportedSample{prompt, how, {}});
  sample.answers.emplace_back(who, text);
}

void read_generate(Report& report, const JsonReader& from) {
  if (from.has("texts")) return;  // --batch: how it was made is all it tells
  add_sample(report, from.object("prompt").text("text"), from.text("how"), known_as(report, from.text("model"), from.text("model_hash", "")), from.text("text"));
}

void read_calibrate(Report&, const JsonReader&) {}  // how it was made is all it tells

// A table per protocol, a model per row, as eval has measured them.
void read_compare(Report& report, const JsonReader& from) {
  for_each_in(from, "groups", [&](const JsonReader& group) {
    for_each_in(group, "models", [&](const JsonReader& row) {
      ReportedEvaluation evaluation{.file = from.source(), .model = read_model(report, row), .reference = row.text("reference", ""), .repeats = true};
      ReportedModel& model = model_of(report, evaluation.model);
      keep(model.file_bytes, number_in(row, "file_bytes"));
      keep(model.prompt_rate, number_in(row, "prompt_tokens_per_second"));
      keep(model.decode_rate, number_in(row, "decode_tokens_per_second"));
      if (!evaluation.reference.empty()) model_of(report, evaluation.reference);
      if (group.has("protocol")) evaluation.protocol = read_reported_protocol(group.object("protocol"));
      if (!row.has("metrics")) return;
      const JsonReader metrics = row.object("metrics");
      for (const auto& [name, value] : metrics.json().items()) {
        const JsonReader metric = metrics.object(name);
        evaluation.metrics[name] = {metric.number("value", -kAny, kAny), number_in(metric, "uncertainty")};
      }
      if (row.has("confidence")) evaluation.confidence = read_confidences(row.object("confidence"));
      report.evaluations.push_back(std::move(evaluation));
    });
  });
}

void read_bench(Report& report, const JsonReader& from) {
  if (!from.has("model")) return;  // --kernels: rates of this machine, of no model
  const std::string path = known_as(report, from.text("model"), from.text("model_hash", ""));
  ReportedModel& model = model_of(report, path);
  keep(model.prompt_rate, number_in(from.object("prompt"), "tokens_per_second"));
  keep(model.decode_rate, number_in(from.object("decode"), "tokens_per_second"));
}

void read_run(Report& report, const JsonReader& from) {
  for_each_in(from, "models", [&](const JsonReader& row) {
    const std::string role = row.text("role");
    ReportedModel& model = model_of(report, row.text("path"));
    model.role = role;
    keep(model.parameters, number_in(row, "parameters"));
    keep(model.file_bytes, number_in(row, "bytes"));
    keep(model.decode_rate, number_in(row, "decode_tokens_per_second"));
    if (const auto bits = number_in(row, "bits_per_weight"); bits && model.parameters) keep(model.weight_bytes, std::round(*bits * *model.parameters / 8));
    for_each_in(row, "samples", [&](const JsonReader& sample) { add_sample(report, sample.text("prompt"), sample.text("how"), model.path, sample.text("text")); });
    ReportedEvaluation evaluation{.file = from.source(), .model = model.path, .repeats = true};
    for (const auto& [key, metric] : {std::pair{"perplexity", "perplexity.value"}, {"kl_divergence", "kl_divergence.mean"}, {"same_top", "same_top.share"}})
      if (const auto value = number_in(row, key)) evaluation.metrics[metric] = {*value, {}};
    if (!evaluation.metrics.empty()) report.evaluations.push_back(std::move(evaluation));
  });
}

struct Reader {
  const char* command;
  void (*read)(Report&, const JsonReader&);
};
constexpr Reader kReaders[] = {{"eval", read_eval},         {"quantize", read_quantize}, {"distill", read_student},
                               {"prune", read_student},     {"bench", read_bench},       {"run", read_run},
                               {"generate", read_generate}, {"compare", read_compare},   {"calibrate", read_calibrate}};

// "attar.eval.1"; results from before schemas had names have none.
void check_schema(const JsonReader& from) {
  const std::string ours = cat("attar.", from.text("command"), ".", kSchemaVersion), schema = from.text("schema", ours);
  if (schema != ours) fail(from.source(), ": has schema '", schema, "', written by attar ", from.text("attar"), "; this program reads '", ours, "': use the attar that wrote it");
}

TrainingLog read_log(const std::string& text, const std::string& file) {
  TrainingLog log{.file = file};
  std::istringstream lines(text);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const bool cut_short = lines.eof();  // by a crash: its line end is missing
    json parsed = json::parse(line, nullptr, false);
    if (parsed.is_discarded() && cut_short) break;
    const std::string where = cat(file, ":", number);
    if (parsed.is_discarded()) fail(where, ": not valid JSON");
    const JsonReader from(parsed, where);
    TrainingLine one{from.text("kind"), from.number("step", 0, kAny), {}};
    for (const auto& [key, value] : parsed.items())
      if (value.is_number() && key != "step" && key != "time") one.values[key] = value.get<double>();
    log.lines.push_back(std::move(one));
  }
  if (log.lines.empty()) fail(file, ": holds no line of a training log");
  return log;
}

}  // namespace

void add_result(Report& report, const json& result, const std::string& source) {
  const JsonReader from(result, source);
  std::vector<std::string> commands;
  if (!from.has("attar") || !from.has("command"))
    fail(from.source(), ": is not a result of Attar ('attar' and 'command' are missing); give files written with --json, or the train.jsonl of attar distill");
  check_schema(from);
  for (const Reader& reader : kReaders) {
    commands.emplace_back(reader.command);
    if (from.text("command") != reader.command) continue;
    reader.read(report, from);
    report.origins.push_back(read_origin(from));
    return;
  }
  fail(from.source(), ": is the result of attar ", from.text("command"), ", which a report has no use for", suggest(from.text("command"), commands));
}

void add_file(Report& report, const std::string& file) {
  const std::string text = read_text_file(file);
  if (fs::path(file).extension() == ".jsonl") report.training.push_back(read_log(text, file));
  else add_result(report, parse_json(text, file), file);
}

Report read_results(const std::vector<std::string>& files) {
  if (files.empty()) fail("report: no result files; give what Attar wrote with --json");
  Report report;
  std::set<std::string> seen;
  for (const std::string& file : files) {
    if (!seen.insert(file).second) fail("report: ", file, " is given twice");
    add_file(report, file);
  }
  finish(report);
  return report;
}

}  // namespace attar
