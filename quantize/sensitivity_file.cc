#include "quantize/sensitivity_file.h"

#include "base/error.h"
#include "datasets/corpus.h"

namespace attar {
namespace {

constexpr int kVersion = 2;  // 1: errors were those of weights, whatever their inputs

struct KeyPart {
  const char* name;
  const char* what;  // for a person
};
constexpr KeyPart kKey[] = {
    {"tokenizer", "another tokenizer"},
    {"model", "another model"},
    {"context", "chunks of another --context"},
    {"chunks", "another number of chunks"},
    {"text", "other calibration text, or the same in the order of another --seed"},
    {"protocol", "another way of measuring"},
};

}  // namespace

nlohmann::json sensitivity_key(const Checkpoint& model, const std::vector<Ids>& chunks) {
  return {{"tokenizer", Tokenizer(model.tokenizer).hash()},
          {"model", checkpoint_hash(model)},
          {"context", chunks.front().size()},
          {"chunks", chunks.size()},
          {"text", chunks_hash(chunks)},
          {"protocol", "KL(model || model with the matrix in q4_0), by squared weight error for other types"}};
}

void write_sensitivities(const std::vector<Sensitivity>& sensitivities, const nlohmann::json& key, const fs::path& file) {
  nlohmann::json matrices = nlohmann::json::array();
  for (const Sensitivity& entry : sensitivities) {
    nlohmann::json kl = nlohmann::json::object();
    for (const Candidate& one : entry.candidates) kl[info(one.type).name] = one.cost;
    matrices.push_back({{"name", entry.name}, {"kl", std::move(kl)}});
  }
  write_text_file(file, nlohmann::json{{"sensitivities", kVersion}, {"of", key}, {"matrices", std::move(matrices)}}.dump(1) + "\n");
}

std::vector<Sensitivity> read_sensitivities(const fs::path& file, const nlohmann::json& key, const Checkpoint& model,
                                            const std::vector<Type>& types) {
  const auto json = nlohmann::json::parse(read_text_file(file), nullptr, false);
  const auto refuse = [&](const auto&... what) {
    fail("sensitivities: ", file.string(), " ", what..., "; remove it to measure anew, or name another file");
  };
  if (!json.is_object() || !json.contains("sensitivities") || !json.contains("of") || !json["of"].is_object() ||
      !json.contains("matrices") || !json["matrices"].is_array())
    refuse("is no file of sensitivities");
  if (json["sensitivities"] != kVersion) refuse("has version ", json["sensitivities"].dump(), ", this program reads ", kVersion);
  for (const KeyPart& part : kKey)
    if (const auto found = json["of"].find(part.name); found == json["of"].end() || *found != key.at(part.name))
      refuse("is of ", part.what, " (", part.name, " ", found == json["of"].end() ? "missing" : found->dump(), ", here ",
             key.at(part.name).dump(), ")");
  std::map<std::string, std::map<std::string, double>> costs;
  try {
    for (const auto& entry : json["matrices"]) entry.at("kl").get_to(costs[entry.at("name")]);
  } catch (const nlohmann::json::exception&) {
    refuse("is damaged");
  }
  return sensitivities_from(model, types, [&](const Tensor& tensor, Type type) {
    const auto& of_matrix = costs[tensor.name];
    const auto cost = of_matrix.find(info(type).name);
    if (cost == of_matrix.end() || !(cost->second >= 0)) refuse("has no figure for ", tensor.name, " in ", info(type).name);
    return cost->second;
  });
}

}  // namespace attar
