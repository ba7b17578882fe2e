// What a model is: config, tokenizer, tensors by type, size.
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>

#include "base/text.h"
#include "cli/command.h"
#include "convert/checkpoint.h"
#include "convert/rope_config.h"

namespace attar::cli {
namespace {

struct InspectOptions {
  Common common;
  std::string model;
  bool tensors = false, hash = false;
};

struct TypeTotal {
  std::uint64_t tensors = 0, weights = 0, bytes = 0;
  double bits_per_weight() const {
    return weights == 0 ? 0 : 8.0 * static_cast<double>(bytes) / static_cast<double>(weights);
  }
};

std::map<std::string, TypeTotal> totals_by_type(const Checkpoint& checkpoint) {
  std::map<std::string, TypeTotal> totals;
  for (const Tensor& tensor : checkpoint.tensors) {
    TypeTotal& total = totals[info(tensor.type).name];
    ++total.tensors;
    total.weights += element_count(tensor.shape);
    total.bytes += tensor.bytes();
  }
  return totals;
}

const char* kind_name(TokenizerKind kind) {
  switch (kind) {
    case TokenizerKind::kByteBpe:
      return "byte-level BPE";
    case TokenizerKind::kMetaspaceBpe:
      return "metaspace BPE";
    case TokenizerKind::kSentencePiece:
      return "SentencePiece";
    case TokenizerKind::kNone:
      break;
  }
  return "none";
}

std::string describe_rope(const ModelConfig& config) {
  std::string text = cat(rope_type_name(config.rope.type), ", theta ", config.rope.theta);
  if (config.rope.type != RopeType::kDefault) text += cat(", factor ", config.rope.factor);
  if (config.rope.partial_rotary_factor != 1.0)
    text += cat(", ", rotary_dim(config, config.rope), " of ", config.head_dim, " dimensions");
  if (config.local_rope.theta != config.rope.theta) text += cat("; sliding layers theta ", config.local_rope.theta);
  return text;
}

std::string describe_attention(const ModelConfig& config) {
  std::string text = cat(config.heads, " heads of ", config.head_dim, ", ", config.kv_heads, " for keys and values");
  if (config.qk_norm) text += ", q and k normed";
  if (config.qkv_bias) text += config.output_bias ? ", biases" : ", q, k and v biases";
  if (config.attention_softcap != 0) text += cat(", capped at ", config.attention_softcap);
  if (config.sliding_window > 0) {
    std::int64_t sliding = 0;
    for (std::int64_t i = 0; i < config.layers; ++i) sliding += config.is_sliding(i) ? 1 : 0;
    text += cat(", ", sliding, " of ", config.layers, " layers see ", config.sliding_window, " tokens");
  }
  return text;
}

std::string describe_tokenizer(const TokenizerData& tokenizer) {
  if (tokenizer.kind == TokenizerKind::kNone) return "none";
  std::string text = cat(kind_name(tokenizer.kind), ", ", tokenizer.size(), " tokens");
  if (!tokenizer.pre.empty()) text += cat(" (", tokenizer.pre, ")");
  const auto token = [&](const char* name, std::int64_t id) {
    if (id >= 0 && id < static_cast<std::int64_t>(tokenizer.size()))
      text += cat(", ", name, " ", id, " ", tokenizer.tokens[static_cast<std::size_t>(id)]);
  };
  token("BOS", tokenizer.bos_id);
  token("EOS", tokenizer.eos_id);
  text += tokenizer.add_bos ? "; BOS is added to texts" : "; BOS is not added to texts";
  if (!tokenizer.chat_template.empty()) text += "; has a chat template";
  return text;
}

void print(const Checkpoint& checkpoint, const std::map<std::string, TypeTotal>& totals) {
  const ModelConfig& config = checkpoint.config;
  const auto line = [](const char* name, const std::string& text) {
    std::cout << std::left << std::setw(12) << name << text << "\n";
  };
  line("model", cat(checkpoint.path.string(), " (", checkpoint.format, ")"));
  line("family", cat(info(config.family).model_type, ", ", config.layers, " layers, hidden ", config.hidden_size,
                     ", MLP ", config.intermediate_size, ", vocabulary ", config.vocab_size,
                     config.tied_embeddings ? ", output tied to the embedding" : ""));
  line("attention", describe_attention(config));
  line("positions", cat(config.max_positions, ", rope ", describe_rope(config)));
  line("tokenizer", describe_tokenizer(checkpoint.tokenizer));
  std::cout << "\n"
            << std::left << std::setw(10) << "type" << std::right << std::setw(8) << "tensors" << std::setw(16)
            << "weights" << std::setw(14) << "bytes" << std::setw(14) << "bits/weight"
            << "\n";
  TypeTotal all;
  const auto row = [](const std::string& name, const TypeTotal& total) {
    std::cout << std::left << std::setw(10) << name << std::right << std::setw(8) << total.tensors << std::setw(16)
              << total.weights << std::setw(14) << total.bytes << std::setw(14) << std::fixed << std::setprecision(3)
              << total.bits_per_weight() << std::defaultfloat << "\n";
  };
  for (const auto& [name, total] : totals) {
    row(name, total);
    all.tensors += total.tensors;
    all.weights += total.weights;
    all.bytes += total.bytes;
  }
  row("all", all);
}

int run_inspect(const InspectOptions& options) {
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const std::map<std::string, TypeTotal> totals = totals_by_type(checkpoint);
  print(checkpoint, totals);
  nlohmann::json tensors = nlohmann::json::array();
  if (options.tensors) std::cout << "\n";
  for (const Tensor& tensor : checkpoint.tensors) {
    if (options.tensors)
      std::cout << std::left << std::setw(56) << tensor.name << std::setw(10) << info(tensor.type).name
                << shape_text(tensor.shape) << "\n";
    tensors.push_back(
        {{"name", tensor.name}, {"type", info(tensor.type).name}, {"shape", tensor.shape}, {"bytes", tensor.bytes()}});
  }
  nlohmann::json types = nlohmann::json::object();
  for (const auto& [name, total] : totals)
    types[name] = {{"tensors", total.tensors},
                   {"weights", total.weights},
                   {"bytes", total.bytes},
                   {"bits_per_weight", total.bits_per_weight()}};
  const std::uint64_t parameters = checkpoint.parameter_count(), bytes = checkpoint.tensor_bytes();
  nlohmann::json result = {{"model", options.model},
                           {"format", checkpoint.format},
                           {"family", info(checkpoint.config.family).model_type},
                           {"config", config_json(checkpoint.config)},
                           {"metadata", checkpoint.metadata},
                           {"tokenizer",
                            {{"kind", kind_name(checkpoint.tokenizer.kind)},
                             {"tokens", checkpoint.tokenizer.size()},
                             {"bos_id", checkpoint.tokenizer.bos_id},
                             {"eos_id", checkpoint.tokenizer.eos_id},
                             {"add_bos", checkpoint.tokenizer.add_bos},
                             {"pre", checkpoint.tokenizer.pre}}},
                           {"parameters", parameters},
                           {"tensor_bytes", bytes},
                           {"types", types},
                           {"tensors", tensors},
                           {"bits_per_weight", 8.0 * static_cast<double>(bytes) / static_cast<double>(parameters)}};
  if (options.hash) {
    const std::string hash = checkpoint_hash(checkpoint);
    std::cout << "\nhash        " << hash << "\n";
    result["hash"] = hash;
  }
  write_result(options.common, "inspect", std::move(result));
  return kDone;
}

}  // namespace

void add_inspect(CLI::App* sub) {
  auto options = std::make_shared<InspectOptions>();
  set_action(*sub, options->common, [options] { return run_inspect(*options); });
  sub->add_option("MODEL", options->model, "Folder, .gguf or .safetensors")->required();
  sub->add_flag("--tensors", options->tensors, "List every tensor");
  sub->add_flag("--hash", options->hash, "Hash config, tokenizer and all weights; reads the whole model");
}

}  // namespace attar::cli
