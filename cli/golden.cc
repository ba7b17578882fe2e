// Golden vectors for a runtime's own tests, and someone's kernels against them.
#include "cli/golden.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "base/console.h"
#include "base/files.h"
#include "base/random.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/hand_over.h"
#include "cli/ids.h"
#include "convert/json.h"

namespace attar::cli {
namespace {

constexpr const char* kIndex = "golden.json";
constexpr const char* kIndexHash = "golden.json.xxh128";
constexpr const char* kSchema = "attar.golden.1";
constexpr std::int64_t kTokens = 16;  // unless ids are given

struct GoldenOptions {
  Common common;
  std::string model, output, ids, check, library;
};

constexpr const char* kReadme = R"(# Golden vectors

Made by `attar golden`. A runtime that multiplies by Attar's packed weights, or runs the model, can test itself against these files.
`golden.json` is the index; it names the model, the seed and every file's XXH3-128 hash (`xxh128sum FILE` prints it), and
`golden.json.xxh128` holds that of the index. Tensors of bytes are stored as I8: read them as unsigned bytes.

## kernels.safetensors
`cases` in the index lists what follows for each NAME: a type, R rows of C columns, and the activations it is multiplied by.

| tensor | shape | what |
|---|---|---|
| `NAME.packed` | (R, bytes of a row) I8 | the blocks |
| `NAME.values` | (R, C) F32 | what they decode to, to the bit |
| `activations.C` | (5, C) F32 | five vectors |
| `activations.C.q8_0`, `.q8_k`, `.int8_row` | (5, bytes) I8 | the same rounded: blocks of q8_0, of q8_k, or a float scale and C bytes. No value lies near a tie, so any correct rounding gives these bytes |
| `NAME.KIND.products` | (5, R) F32 | vector t rounded as KIND (f32: not at all) times row r |
| `NAME.KIND.tolerance` | (5, R) F32 | accept a product that is no further away: room for adding floats in another order, too little for a wrong code |
| `NAME.KIND.integers` | (5, R, blocks, 2) I32 | per block, exactly: the sum of sc * level * q, and the sum of m * q |

A library with the functions of `attar_kernels.h` (or some of them) is checked by

    attar golden --check THIS_FOLDER --with libmine.so

which says where the first difference is and then exits with 1. In Python:

    from safetensors.numpy import load_file
    t = load_file("kernels.safetensors")
    blocks = t["q4_0.packed"].view("uint8")        # (8, 288): 16 blocks of 18 bytes a row
    mine = my_decode_q4_0(blocks)
    assert (mine == t["q4_0.values"]).all()

## attention.safetensors
`rope.*` (and `rope.sliding.*`, where layers with a window turn by other angles): `positions`, `theta`, `cos` and `sin` (positions, pairs), and
`output`, which is `input` (positions, head_dim) rotated: dimension j turns with dimension j + rotated_dims / 2, and the rest stays.
`attention.*`: `q` (heads, tokens, head_dim), `k` and `v` (kv_heads, ...), `weights` (heads, tokens, tokens) after softmax, and `output`
(tokens, heads, head_dim). `scale`, `softcap` and `window` are in the index; a token with window w sees w tokens, itself included.

## layers.safetensors
For `input_ids`: `embedding` (as it enters the first layer), `layers.N.attention` (after the attention's residual sum), `layers.N` (after the
layer), `final_norm` and `logits`, in float32 on the decoded weights. `tolerances` in the index says how far a float32 runtime may be from
each, as an absolute difference. One that rounds activations to 8 bits is further away: compare its distribution over the
vocabulary (a mean divergence of 1e-3 is usual), not its layers.

`config.json` is the model's.
)";

std::string hash_of(const fs::path& file) { return content_hash(MappedFile(file).bytes()); }

std::vector<std::int64_t> tokens_of(const GoldenOptions& options, const ModelConfig& config) {
  if (!options.ids.empty()) {
    const std::vector<Ids> rows = read_ids("golden", options.ids);
    if (rows.size() != 1) fail("golden: ", options.ids, ": input_ids has ", rows.size(), " rows, expected one");
    return rows.front();
  }
  std::vector<std::int64_t> ids;
  Random random(options.common.seed);
  for (std::int64_t t = 0; t < std::min(kTokens, config.max_positions); ++t)
    ids.push_back(static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(config.vocab_size))));
  return ids;
}

int make(const GoldenOptions& options) {
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const std::vector<std::int64_t> ids = tokens_of(options, checkpoint.config);
  OutputFolder out(options.output);
  nlohmann::json index = stamped("golden", {{"schema", kSchema},
                                            {"model", {{"path", options.model}, {"hash", checkpoint_hash(checkpoint)}}},
                                            {"seed", options.common.seed},
                                            {"tokens", ids}});
  const auto add = [&](const std::string& name, GoldenPart part) {
    write_safetensors(out.folder() / (name + ".safetensors"), part.tensors);
    index[name] = std::move(part.index);
  };
  add("kernels", golden_kernels(checkpoint, options.common.seed));
  add("attention", golden_attention(checkpoint.config, static_cast<std::int64_t>(ids.size()), options.common.seed));
  add("layers", golden_layers(checkpoint, ids));
  write_text_file(out.folder() / "config.json", config_json(checkpoint.config).dump(2) + "\n");
  write_text_file(out.folder() / "README.md", kReadme);
  for (const char* file :
       {"kernels.safetensors", "attention.safetensors", "layers.safetensors", "config.json", "README.md"})
    index["files"][file] = hash_of(out.folder() / file);
  write_text_file(out.folder() / kIndex, index.dump(1) + "\n");
  write_text_file(out.folder() / kIndexHash, cat(hash_of(out.folder() / kIndex), "  ", kIndex, "\n"));
  out.commit();
  note(cat("golden vectors of ", index["kernels"]["cases"].size(), " cases and ", ids.size(), " tokens written to ",
           options.output));
  write_result(options.common, "golden",
               {{"output", options.output}, {"files", index["files"]}, {"cases", index["kernels"]["cases"].size()}});
  return kDone;
}

// The index, once every byte of the folder is what it was.
nlohmann::json read_index(const fs::path& folder) {
  const auto expect = [&](const std::string& name, const std::string& wanted, const char* where) {
    if (const std::string found = hash_of(folder / name); found != wanted)
      fail("golden: ", (folder / name).string(), " has the hash ", found, ", ", where, " says ", wanted,
           "; the folder has been altered, make it anew");
  };
  const std::string line = read_text_file(folder / kIndexHash), end = cat("  ", kIndex, "\n");
  if (line.size() != 32 + end.size() || line.substr(32) != end)
    fail("golden: ", (folder / kIndexHash).string(), " is not a hash and '", kIndex,
         "'; the folder has been altered, make it anew");
  expect(kIndex, line.substr(0, 32), kIndexHash);
  nlohmann::json index = parse_json(read_text_file(folder / kIndex), (folder / kIndex).string());
  if (index.value("schema", "") != kSchema)
    fail("golden: ", (folder / kIndex).string(), " has the schema '", index.value("schema", ""), "', expected '",
         kSchema, "'; make the folder anew");
  for (const auto& [name, hash] : index.at("files").items()) expect(name, hash, kIndex);
  return index;
}

std::string describe(const Difference& d) {
  const std::string what = cat(d.function, d.type.empty() ? "" : ", type " + d.type,
                               d.activations.empty() ? "" : ", activations " + d.activations, ": tensor ", d.tensor);
  if (!d.error.empty()) return cat(what, ": ", d.error);
  return cat(what, ", row ", d.row, ", column ", d.column, ": expected ", exact(d.expected), ", got ", exact(d.got),
             d.tolerance > 0 ? cat(" (tolerance ", exact(d.tolerance), ")") : "");
}

nlohmann::json to_json(const Difference& d) {
  nlohmann::json json = {
      {"function", d.function}, {"tensor", d.tensor}, {"type", d.type}, {"activations", d.activations}};
  if (!d.error.empty()) {
    json["error"] = d.error;
  } else {
    json.update(
        {{"row", d.row}, {"column", d.column}, {"expected", d.expected}, {"got", d.got}, {"tolerance", d.tolerance}});
  }
  return json;
}

int check(const GoldenOptions& options) {
  const fs::path folder = options.check;
  const nlohmann::json index = read_index(folder);
  const KernelFunctions kernels = options.library.empty() ? own_kernels() : load_kernels(options.library);
  const std::string who = options.library.empty() ? "attar's own kernels" : options.library;
  const KernelCheck result =
      check_kernels(kernels, read_safetensors(folder / "kernels.safetensors"), index.at("kernels"));
  if (result.values == 0 && result.differences.empty())
    fail("golden: ", who, " knows none of the types; nothing was checked");
  std::string lacking;
  for (const std::string& name : result.not_checked) lacking += (lacking.empty() ? "" : ", ") + name;
  if (!lacking.empty()) {
    if (options.common.strict) fail("golden: ", who, " lacks ", lacking);
    warn(cat("golden: not checked, ", who, " lacks ", lacking));
  }
  nlohmann::json differences = nlohmann::json::array();
  for (const Difference& d : result.differences) differences.push_back(to_json(d));
  if (result.differences.empty()) {
    std::cout << who << ": " << result.values << " values as they should be\n";
  } else {
    std::cout << who << ": " << result.differences.size() << " functions and tensors differ; the first is\n"
              << describe(result.differences[0]) << "\n";
    for (std::size_t i = 1; i < result.differences.size(); ++i) detail(describe(result.differences[i]));
  }
  write_result(options.common, "golden",
               {{"folder", options.check},
                {"library", options.library},
                {"values", result.values},
                {"differences", std::move(differences)},
                {"not_checked", result.not_checked}});
  return result.differences.empty() ? kDone : kGateFailed;
}

int run_golden(const GoldenOptions& options) {
  if (options.model.empty() == options.check.empty())
    fail("golden: give either MODEL and -o to make a folder, or --check FOLDER");
  if (!options.check.empty()) {
    if (!options.output.empty() || !options.ids.empty()) fail("golden: -o and --ids go with MODEL, not with --check");
    return check(options);
  }
  if (options.output.empty()) fail("golden: -o FOLDER is missing");
  if (!options.library.empty()) fail("golden: --with goes with --check");
  need_torch();
  return make(options);
}

}  // namespace

void add_golden(CLI::App* sub) {
  auto options = std::make_shared<GoldenOptions>();
  set_action(*sub, options->common, [options] { return run_golden(*options); });
  sub->add_option("MODEL", options->model, "Folder or .gguf");
  sub->add_option("-o,--output", options->output, "Folder to write");
  sub->add_option("--ids", options->ids,
                  "safetensors file with input_ids (1, time) int64; else 16 tokens drawn from the seed");
  sub->add_option("--check", options->check, "Folder that this command wrote: check it, and kernels against it");
  sub->add_option("--with", options->library,
                  "Shared library with functions of attar_kernels.h; else Attar's own are checked");
}

}  // namespace attar::cli
