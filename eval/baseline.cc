#include "eval/baseline.h"

#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/files.h"
#include "eval/confidence.h"
#include "eval/metrics.h"

namespace attar {

using nlohmann::json;

Baseline::Baseline(const std::string& path) : json_(parse_json(read_text_file(path), cat("baseline ", path))), source_(path) {
  check();
}

Baseline::Baseline(json result, std::string source) : json_(std::move(result)), source_(std::move(source)) { check(); }

void Baseline::check() const {
  const std::string what = cat("baseline ", source_);
  const JsonReader reader(json_, what);
  const std::string schema = reader.text("schema", "");
  if (schema != kResultSchema)
    fail(what, schema.empty() ? " is no result of attar eval" : cat(" has schema '", schema, "'"), "; this program compares with '",
         kResultSchema, "': make it anew with --update-baseline");
  for (const char* key : {"model", "protocol", "samples"}) (void)reader.object(key);
}

void Baseline::require_comparable(const EvalResult& result) const {
  const std::string what = cat("baseline ", source_);
  const JsonReader reader(json_, what);
  const auto same = [&](const std::string& name, const auto& now, const auto& then) {
    if (now != then)
      fail(what, ": ", name, " is ", then, " there and ", now, " here; such results cannot be compared. If the change is meant, make it ",
           "anew with --update-baseline");
  };
  const ModelSummary then = read_model_summary(reader.object("model"));
  const ModelSummary& now = result.model;
  same("the model's architecture", now.architecture, then.architecture);
  same("the model's number of layers", now.layers, then.layers);
  same("the model's hidden size", now.hidden_size, then.hidden_size);
  same("the model's vocabulary", now.vocab_size, then.vocab_size);
  const Protocol before = read_protocol(reader.object("protocol"));
  const Protocol& p = result.protocol;
  same("the hash of the tokenizer", p.tokenizer_hash, before.tokenizer_hash);
  same("whether quantized weights stay packed (without --float)", p.packed, before.packed);
  if (p.scored > 0 && before.scored > 0) {
    same("the protocol", p.name, before.name);
    same("the hash of the text", p.data_hash, before.data_hash);
    same("the context", p.context, before.context);
    same("the number of chunks", p.chunks, before.chunks);
    same("the protocol's hash", p.hash(), before.hash());
  }
  if (result.reference && reader.has("reference")) {
    const JsonReader reference = reader.object("reference");
    same("the hash of the reference", result.reference->hash, reference.text("hash"));
    same("whether the reference is a stored file, whose divergences are estimates,", result.stored_reference, reference.boolean("stored", false));
  }
  if (result.cloze && reader.has("cloze")) same("the hash of the cloze items", result.cloze->hash, reader.object("cloze").text("hash", ""));
  for (const TaskResult& task : result.tasks) require_comparable(task);
}

void Baseline::require_comparable(const TaskResult& task) const {
  const JsonReader reader(json_, cat("baseline ", source_));
  if (!reader.has("tasks") || !reader.object("tasks").has(task.name)) return;  // then there is nothing to compare with
  const JsonReader tasks = reader.object("tasks"), then = tasks.object(task.name);
  const bool alike = then.text("hash") == task.hash && then.integer("context", 0, 1ll << 40) == task.context &&
                     then.boolean("bos", true) == task.bos;
  if (!alike)
    fail(then.source(), ": its items or how they were asked differ from this run's (hash ", then.text("hash"), ", now ", task.hash,
         "); such results cannot be compared. If the change is meant, make it anew with --update-baseline");
}

double Baseline::value(const std::string& metric) const {
  const json* at = &json_;
  for (std::size_t begin = 0; begin <= metric.size();) {
    const std::size_t end = std::min(metric.find('.', begin), metric.size());
    if (!at->is_object()) return std::nan("");
    const auto found = at->find(metric.substr(begin, end - begin));
    if (found == at->end()) return std::nan("");
    at = &*found;
    begin = end + 1;
  }
  return at->is_number() ? at->get<double>() : std::nan("");
}

std::optional<Samples> Baseline::samples(const std::string& metric) const {
  const auto found = json_["samples"].find(metric);
  if (found == json_["samples"].end()) return {};
  return read_samples(JsonReader(*found, cat("baseline ", source_, ": samples: ", metric)));
}

}  // namespace attar
