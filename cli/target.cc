#include "cli/target.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/error.h"
#include "base/text.h"
#include "cli/numbers.h"
#include "quantize/runtimes.h"

namespace attar::cli {
namespace {

// What is chosen from unless --types or --runtime says otherwise.
constexpr const char* kGgufTypes = "q2_k,q3_k,iq4_xs,iq4_nl,q4_0,q4_k,q4_1,q5_0,q5_k,q5_1,q6_k,q8_0";
constexpr const char* kFolderTypes = "affine2_g32,affine3_g64,affine3_g32,affine4_g64,affine4_g32,affine5_g32,affine6_g32,affine8_g32";

std::vector<Type> parse_types(const std::string& text) {
  std::vector<Type> types;
  std::istringstream list(text);
  std::vector<std::string> known = quantizable_type_names();
  known.insert(known.end(), {"f16", "bf16"});
  for (std::string name; std::getline(list, name, ',');) {
    if (std::find(known.begin(), known.end(), name) == known.end()) fail("--types ", name, ": unknown type", suggest(name, known));
    types.push_back(*type_from_name(name));
  }
  return types;
}

}  // namespace

std::vector<Type> usual_types(const fs::path& output) { return parse_types(is_gguf(output) ? kGgufTypes : kFolderTypes); }

std::vector<Type> allowed_types(const Target& target, const fs::path& output) {
  if (!target.runtime.empty()) return runtime_from_name(target.runtime).types;
  return target.types.empty() ? usual_types(output) : parse_types(target.types);
}

void add_target_options(CLI::App& sub, Target& target) {
  sub.add_option("--target-size", target.size,
                 "In place of --type: a .gguf, or a folder of files, of at most this size (9300000, 9.3MB, 1.5GB), each matrix in the type that its "
                 "measured sensitivity asks for; needs --calibration")
      ->type_name("SIZE");
  sub.add_option("--target-bpw", target.bpw, "The same for so many bits per weight, all matrices together")
      ->check(between(1, 16))
      ->excludes("--target-size");
  sub.add_option("--target-kld", target.kld,
                 "The same for the smallest model whose mean KL divergence from the original is at most this, measured on calibration "
                 "text that is kept aside; quantizes up to five times")
      ->check(kPositive)
      ->excludes("--target-size")
      ->excludes("--target-bpw");
  std::string runtimes;
  for (const Runtime& runtime : all_runtimes()) runtimes += cat(runtimes.empty() ? "" : ", ", runtime.name);
  sub.add_option("--runtime", target.runtime, cat("Only types that it multiplies by fast: ", runtimes))->type_name("NAME");
  sub.add_option("--types", target.types, cat("Types to choose from for a target; by default ", kGgufTypes, " for a .gguf, ", kFolderTypes,
                     " for a folder"))
      ->type_name("TYPE,...")
      ->excludes("--runtime");
  sub.add_option("--sensitivities", target.sensitivities,
                 "File of measured sensitivities for targets: read if it exists, else written")
      ->type_name("FILE");
}

void check_target(const Target& target, const fs::path& output) {
  if (!target.given() && !target.types.empty()) fail("--types is what a target chooses from; give --target-size, --target-bpw or --target-kld");
  if (!target.given() && !target.sensitivities.empty())
    fail("--sensitivities is for a target; give --target-size, --target-bpw or --target-kld");
  if (!target.size.empty()) parse_size("--target-size", target.size);
  if (!target.runtime.empty()) {
    const Runtime& runtime = runtime_from_name(target.runtime);
    if (runtime.gguf != is_gguf(output))
      fail("--runtime ", runtime.name, " takes ", runtime.gguf ? "a .gguf" : "a folder", ", and ", output.string(), " is none; give -o ",
           runtime.gguf ? "a name ending in .gguf" : "a folder");
  }
  if (target.given())
    for (const Type type : allowed_types(target, output)) check_home(type, output, "a matrix, if --types allows it,");
}

bool is_gguf(const fs::path& output) { return output.extension() == ".gguf"; }

void check_home(Type type, const fs::path& output, std::string_view what) {
  if (is_gguf(output) && group_format(type))
    fail("quantize: ", what, " is to be ", info(type).name, ", which a .gguf cannot hold; give -o a folder, or a type such as q4_0");
  if (!is_gguf(output) && info(type).quantized && !group_format(type))
    fail("quantize: ", what, " is to be ", info(type).name, ", which only a .gguf can hold, and ", output.string(), " is a folder; ",
         "give -o a name ending in .gguf, or a type such as affine4_g64");
}

void check_runtime(const Target& target, const std::vector<TensorPlan>& plan) {
  if (target.runtime.empty()) return;
  const Runtime& runtime = runtime_from_name(target.runtime);
  for (const TensorPlan& tensor : plan)
    if (!is_fast(runtime, tensor.got))
      fail("quantize: ", tensor.name, " is to be ", info(tensor.got).name, tensor.reason.empty() ? "" : cat(" (", tensor.reason, ")"),
           ", which ", runtime.name, " is not fast with; it is with ", type_list(runtime.types), ": give --override '", tensor.gguf_name,
           "=", info(runtime.types.back()).name, "', --pure with one of them, a target in place of --type, or leave out --runtime");
}

std::uint64_t parse_size(const std::string& option, const std::string& text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const double factor = unit == "GB" ? 1e9 : unit == "MB" ? 1e6 : unit == "kB" ? 1e3 : unit.empty() ? 1.0 : 0.0;
  if (error != std::errc() || !(number > 0) || factor == 0.0 || number * factor >= 0x1p63)
    fail(option, " ", text, ": expected bytes, such as 9300000, 9.3MB or 1.5GB");
  return static_cast<std::uint64_t>(number * factor);
}

}  // namespace attar::cli
