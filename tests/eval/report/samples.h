// Results as the commands write them, made up.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/text.h"
#include "eval/report/results.h"

namespace attar::test {

using nlohmann::json;

inline json model_json(const std::string& path, double bytes) {
  return {{"path", path}, {"hash", "h-" + path}, {"parameters", 2'000'000}, {"tensor_bytes", bytes}};
}

inline json eval_json(const std::string& path = "out/small.gguf", double kl = 0.0123456789, double bytes = 1'250'000) {
  return {{"attar", "0.1.0"},
          {"command", "eval"},
          {"schema", "attar.eval.1"},
          {"model", model_json(path, bytes)},
          {"reference", model_json("models/big", 4'000'000)},
          {"protocol", {{"name", "llama-perplexity"}, {"data", "heldout.txt"}, {"data_hash", "d1"}, {"tokenizer_hash", "t1"}, {"context", 128}, {"chunks", 8},
                        {"tokens", 4711}, {"tokens_scored", 504}}},
          {"perplexity", {{"value", 2.7794321}, {"uncertainty", 0.0131}, {"nll", 1.0222}, {"nll_uncertainty", 0.0047}}},
          {"reference_perplexity", {{"value", 2.585}, {"uncertainty", 0.012}}},
          {"kl_divergence", {{"mean", kl}, {"uncertainty", 0.00051}, {"median", 0.0021}, {"p90", 0.03}, {"p95", 0.05}, {"p99", 0.2}, {"p99_9", 0.9}, {"max", 1.1}, {"min", 0.0}}},
          {"same_top", {{"share", 0.8635}, {"uncertainty", 0.011}}},
          {"delta_p", {{"mean", -0.0021}, {"uncertainty", nullptr}}}};
}

inline json gate_json(const std::string& outcome) {
  return {{"outcome", outcome},
          {"checks",
           {{{"metric", "kl_divergence.mean"}, {"outcome", outcome}, {"value", outcome == "undecided" ? json(nullptr) : json(0.0123456789)}, {"max", outcome == "worse" ? 0.01 : 0.05}},
            {{"metric", "same_top.share"}, {"outcome", "pass"}, {"value", 0.8635}, {"min", 0.8}}}}};
}

inline json quantize_json(const std::string& output = "out/small.gguf") {
  json tensors = json::array();
  for (int layer = 0; layer < 3; ++layer)
    for (const char* kind : {"self_attn.q_proj", "mlp.down_proj"})
      tensors.push_back({{"name", "model.layers." + std::to_string(layer) + "." + kind + ".weight"}, {"gguf_name", "blk"}, {"shape", {8, 8}},
                         {"type", "q4_0"}, {"type_asked", "q4_k"}, {"fallback", "288 columns"}, {"method", "gptq"},
                         {"weight_error", 0.001 * (layer + 1)}, {"output_error", 0.0001 * (layer + 1)}});
  tensors.push_back({{"name", "model.embed_tokens.weight"}, {"type", "q6_k"}, {"type_asked", "q6_k"}, {"method", "rtn"}, {"weight_error", 0.00043}});
  return {{"attar", "0.1.0"}, {"command", "quantize"}, {"output", output}, {"bytes", 1'300'000}, {"preset", "q4_k_m"}, {"method", "gptq"}, {"seconds", 5.25}, {"tensors", tensors}};
}

inline json bench_json(const std::string& model = "out/small.gguf") {
  return {{"attar", "0.1.0"}, {"command", "bench"}, {"model", model}, {"prompt", {{"tokens_per_second", 418.452}}}, {"decode", {{"tokens_per_second", 650.833}}}};
}

inline json run_json() {
  const auto row = [](const char* role, const char* path, double bits) {
    return json{{"role", role}, {"path", path}, {"parameters", 2'000'000}, {"bytes", 1'500'000}, {"bits_per_weight", bits}, {"perplexity", 2.5}, {"decode_tokens_per_second", 1476.25},
                {"sample", "Once upon a time."},
                {"samples", {{{"prompt", "Once"}, {"how", "the likeliest token each time"}, {"text", std::string(" said the ") + role}}}}};
  };
  return {{"attar", "0.1.0"}, {"command", "run"}, {"output", "out"}, {"prompt", "Once"},
          {"recipe", {{"path", "recipe.toml"}, {"hash", "r1"}, {"text", "[run]\nteacher = \"models/big\"\n"}}},
          {"stages", {{{"name", "quantize"}, {"command", "attar quantize models/big"}, {"inputs", "i1"}, {"output", "o1"}, {"seconds", 3.5}}}},
          {"models", {row("teacher", "models/big", 16), row("quantized", "out/small.gguf", 5)}}};
}

inline std::string train_log() {
  std::string text;
  for (int step = 1; step <= 20; ++step) {
    text += json{{"kind", "train"}, {"step", step}, {"time", 1.0}, {"kl", 1.0 / step}, {"cross_entropy", 2.0 / step}, {"learning_rate", 1e-4 * step}}.dump() + "\n";
    if (step % 5 == 0) text += json{{"kind", "eval"}, {"step", step}, {"kl", 1.1 / step}, {"cross_entropy", 2.1 / step}, {"same_top", 0.5}}.dump() + "\n";
  }
  return text;
}

// Read as if they were files file0.json, file1.json, ...
inline Report report_of(const std::vector<json>& results) {
  Report report;
  for (std::size_t i = 0; i < results.size(); ++i) add_result(report, results[i], cat("file", i, ".json"));
  finish(report);
  return report;
}

}  // namespace attar::test
