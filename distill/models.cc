#include "distill/models.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/console.h"
#include "base/error.h"
#include "base/files.h"
#include "convert/json.h"
#include "convert/vocabulary.h"
#include "datasets/tokenizer.h"
#include "datasets/vocabulary.h"

namespace attar {
namespace {

std::uint64_t parameter_count(Decoder& decoder) {
  std::uint64_t count = 0;
  for (const auto& name : decoder.parameter_names()) count += static_cast<std::uint64_t>(decoder.parameter(name).numel());
  return count;
}

void check_tokenizer(const LoadedModel& model, const fs::path& path) {
  if (model.tokenizer.kind == TokenizerKind::kNone)
    fail("[distill] ", path.string(), " has no tokenizer (tokenizer.json or tokenizer.model), and no teacher gives one");
  const auto tokens = static_cast<std::int64_t>(model.tokenizer.size());
  if (tokens > model.config.vocab_size)
    fail("[distill] ", path.string(), ": the tokenizer has ", tokens, " tokens, but vocab_size is ", model.config.vocab_size);
}

bool is_bare_config(const fs::path& path) {
  if (!fs::is_directory(path) || !fs::exists(path / "config.json")) return false;
  return std::none_of(fs::directory_iterator(path), fs::directory_iterator(), [](const fs::directory_entry& entry) {
    const auto extension = entry.path().extension();
    return extension == ".safetensors" || extension == ".gguf" || extension == ".bin" || extension == ".pt" ||
           extension == ".pth";
  });
}

// The teacher over the student's vocabulary, where that is a part of its own.
Checkpoint fitted(const Checkpoint& teacher, const LoadedModel& student) {
  const auto kept = student.config.vocab_size < teacher.config.vocab_size ? ids_within(student.tokenizer, teacher.tokenizer) : std::nullopt;
  return kept ? select_tokens(teacher, *kept) : teacher;
}

}  // namespace

LoadedModel load_student(const fs::path& path, const Checkpoint* teacher, std::uint64_t seed,
                         const at::Device& device) {
  LoadedModel model;
  if (is_bare_config(path)) {
    const auto source = (path / "config.json").string();
    model.decoder = std::make_shared<Decoder>(parse_config(parse_json(read_text_file(source), source), source));
    initialise(*model.decoder, seed);
    model.decoder->to(device);
    model.tokenizer = read_tokenizer_data(path);
    if (model.tokenizer.kind == TokenizerKind::kNone && teacher != nullptr) model.tokenizer = teacher->tokenizer;
    note(cat(path.string(), " holds no weights: the student starts from random ones, seed ", seed));
  } else {
    const Checkpoint checkpoint = open_checkpoint(path);
    model.decoder = load_decoder(checkpoint, device);
    model.tokenizer = checkpoint.tokenizer;
    if (model.tokenizer.kind == TokenizerKind::kNone && teacher != nullptr) model.tokenizer = teacher->tokenizer;
  }
  model.config = model.decoder->config();
  check_tokenizer(model, path);
  model.identity = checkpoint_hash(to_checkpoint(*model.decoder, model.tokenizer));
  model.parameters = parameter_count(*model.decoder);
  return model;
}

LoadedModel describe_teacher(const Checkpoint& checkpoint, const LoadedModel& student) {
  const Checkpoint seen = fitted(checkpoint, student);
  LoadedModel model{nullptr, seen.config, seen.tokenizer, checkpoint_hash(checkpoint), checkpoint.parameter_count()};
  check_tokenizer(model, checkpoint.path);
  return model;
}

LoadedModel load_teacher(const Checkpoint& checkpoint, const LoadedModel& student, const at::Device& device) {
  LoadedModel model = describe_teacher(checkpoint, student);
  model.decoder = load_decoder(fitted(checkpoint, student), device);
  for (auto& parameter : model.decoder->parameters()) parameter.set_requires_grad(false);
  return model;
}

namespace {

// The first rule in which two tokenizers of the same tokens differ.
std::string differing_rule(const TokenizerData& student, const TokenizerData& teacher) {
  const auto &a = student.merges, &b = teacher.merges;
  const auto [here, there] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  if (here != a.end() && there != b.end())
    return cat("merge ", here - a.begin(), " joins '", here->first, "' and '", here->second, "' for the student, '", there->first, "' and '", there->second,
               "' for the teacher");
  if (a.size() != b.size()) return cat("the student has ", a.size(), " merges, the teacher ", b.size());
  if (student.split_regexes != teacher.split_regexes || student.pre != teacher.pre) return "text is split into words by other rules";
  const auto marks = [](const TokenizerData& t) { return cat(t.add_bos ? "" : "no ", "BOS ", t.bos_id, ", ", t.add_eos ? "" : "no ", "EOS ", t.eos_id); };
  if (marks(student) != marks(teacher)) return cat("the student's texts have ", marks(student), ", the teacher's ", marks(teacher));
  return "they normalise text or match added tokens differently";
}

}  // namespace

void check_pair(const LoadedModel& student, const LoadedModel& teacher) {
  const auto &a = student.tokenizer.tokens, &b = teacher.tokenizer.tokens;
  constexpr const char* kCure = "; a student learns only from a teacher with the same tokenizer";
  for (std::size_t id = 0; id < std::min(a.size(), b.size()); ++id)
    if (a[id] != b[id])
      fail("[distill] the tokenizers differ: token ", id, " is '", a[id], "' for the student and '", b[id],
           "' for the teacher", kCure);
  if (a.size() != b.size())
    fail("[distill] the tokenizers differ: the student has ", a.size(), " tokens, the teacher ", b.size(), "; token ", std::min(a.size(), b.size()), " is '",
         (a.size() > b.size() ? a : b)[std::min(a.size(), b.size())], "' for one and none for the other", kCure);
  if (Tokenizer(student.tokenizer).hash() != Tokenizer(teacher.tokenizer).hash())
    fail("[distill] the tokenizers have the same tokens but different rules: ", differing_rule(student.tokenizer, teacher.tokenizer), kCure);
  if (student.parameters > teacher.parameters)
    warn(cat("the student (", student.parameters, " parameters) is larger than its teacher (", teacher.parameters, ")"));
}

}  // namespace attar
