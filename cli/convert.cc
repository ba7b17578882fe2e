// One file format to another: Hugging Face folders and GGUF files, in F32, F16 or BF16 or as stored.
#include <memory>

#include "base/console.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/numbers.h"
#include "convert/checkpoint.h"

namespace attar::cli {
namespace {

struct ConvertOptions {
  Common common;
  std::string model, output, to, type, name;
  double max_shard_gb = 5.0;
};

// Tensors that lose their packing, for the report. A GGUF keeps ggml's types, a folder plain groups.
std::vector<std::string> decoded_tensors(const Checkpoint& checkpoint, bool to_hf, std::optional<Type> type) {
  std::vector<std::string> names;
  for (const Tensor& tensor : checkpoint.tensors)
    if (info(tensor.type).quantized && (type || (to_hf && !group_format(tensor.type)))) names.push_back(tensor.name);
  return names;
}

int run_convert(const ConvertOptions& options) {
  const std::vector<std::string> formats = {"gguf", "hf"};
  const std::string to = !options.to.empty() ? options.to : options.output.ends_with(".gguf") ? "gguf" : "hf";
  if (to != "gguf" && to != "hf") fail("convert: unknown format '", to, "'", suggest(to, formats));
  std::optional<Type> type;
  if (!options.type.empty()) type = plain_type("convert: --type", options.type);
  refuse_overwriting("convert", {options.model}, {options.output, options.common.json});
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const std::vector<std::string> decoded = decoded_tensors(checkpoint, to == "hf", type);
  if (!decoded.empty()) {
    const std::string message = cat("convert: ", decoded.size(), " packed tensors become ",
                                    type ? info(*type).name : "f32", ", the first is ", decoded.front());
    if (options.common.strict) fail(message, "; without --strict this is allowed");
    warn(message);
  }
  if (to == "gguf") {
    GgufOptions gguf;
    gguf.type = type;
    gguf.name = options.name;
    const auto& known = checkpoint.metadata;  // a GGUF that stays packed keeps what it says of itself
    if (!type && known.is_object() && known.contains("general.file_type") &&
        known["general.file_type"].is_number_integer())
      gguf.file_type = known["general.file_type"].get<std::uint32_t>();
    if (gguf.name.empty() && known.is_object() && known.contains("general.name") && known["general.name"].is_string())
      gguf.name = known["general.name"].get<std::string>();
    write_gguf(checkpoint, options.output, gguf);
  } else {
    HfOptions hf;
    hf.type = type;
    hf.max_shard_bytes = static_cast<std::uint64_t>(options.max_shard_gb * 1e9);
    write_hf(checkpoint, options.output, hf);
  }
  note(cat("wrote ", options.output));
  write_result(options.common, "convert",
               {{"model", options.model},
                {"output", options.output},
                {"format", to},
                {"type", type ? nlohmann::json(info(*type).name) : nlohmann::json("as stored")},
                {"parameters", checkpoint.parameter_count()},
                {"decoded", decoded}});
  return kDone;
}

}  // namespace

void add_convert(CLI::App* sub) {
  auto options = std::make_shared<ConvertOptions>();
  set_action(*sub, options->common, [options] { return run_convert(*options); });
  sub->add_option("MODEL", options->model, "Folder, .gguf or .safetensors")->required();
  sub->add_option("-o,--output", options->output, "What to write: a .gguf file or a folder")->required();
  sub->add_option("--to", options->to,
                  "gguf or hf (a folder with safetensors); by default what the output's name says");
  sub->add_option("--type", options->type, "f32, f16 or bf16 for all matrices; by default as they are stored");
  sub->add_option("--name", options->name, "general.name of a GGUF; by default the model's");
  sub->add_option("--max-shard", options->max_shard_gb, "Largest safetensors file in GB")->check(kPositive);
}

}  // namespace attar::cli
