#include "eval/evaluate.h"

#include <optional>
#include <utility>

#include "base/console.h"
#include "base/text.h"
#include "convert/checkpoint.h"
#include "convert/vocabulary.h"
#include "datasets/corpus.h"
#include "datasets/vocabulary.h"
#include "eval/cloze.h"
#include "eval/measure.h"

namespace attar {
namespace {

ModelSummary summary(const Checkpoint& checkpoint, const std::string& path) {
  return {path, checkpoint_hash(checkpoint), checkpoint.parameter_count(), checkpoint.tensor_bytes()};
}

void warn_about_length(const Checkpoint& checkpoint, std::int64_t context) {
  const std::int64_t trained = checkpoint.config.max_positions;
  if (trained > 0 && context > trained)
    warn(cat("eval: a context of ", context, " is more than the ", trained, " tokens ", checkpoint.path.string(),
             " was made for"));
}

std::vector<Sequence> scored_chunks(const Tokenizer& tokenizer, const Ids& ids, const EvalOptions& options) {
  const std::int64_t context = options.chunking.context;
  std::vector<Sequence> sequences;
  for (Ids& chunk : cut_chunks(ids, options.chunking, chunk_bos(tokenizer.data()), options.data))
    sequences.push_back({std::move(chunk), first_scored(context), context - 1});
  return sequences;
}

// In the order of measure().
std::vector<double> scored_bytes(const Tokenizer& tokenizer, const std::vector<Sequence>& sequences) {
  std::vector<double> bytes;
  for (const Sequence& s : sequences)
    for (std::int64_t p = s.begin; p < s.end; ++p)
      bytes.push_back(static_cast<double>(tokenizer.bytes_of(s.ids[static_cast<std::size_t>(p) + 1]).size()));
  return bytes;
}

// What the reference makes of the text by its own tokenizer.
void measure_whole_reference(const Checkpoint& whole, const std::string& text, const EvalOptions& options,
                             const torch::Device& device, EvalResult& result) {
  const Tokenizer tokenizer(whole.tokenizer);
  const Ids ids = tokenize_text(tokenizer, text, whole.config.vocab_size, options.data);
  const auto sequences = scored_chunks(tokenizer, ids, options);
  result.protocol.reference_tokens = static_cast<std::int64_t>(ids.size());
  result.divergence->reference_bits_per_byte =
      bits_per_byte(measure(*load_decoder(whole, device), nullptr, sequences, "reference").nll,
                    scored_bytes(tokenizer, sequences));
}

}  // namespace

bool measures_cloze(const EvalOptions& options) {
  return options.data == "builtin:heldout" && options.cloze_items > 0;
}

EvalResult evaluate(const EvalOptions& options) {
  const torch::Device device = parse_device(options.device);
  const Checkpoint checkpoint = open_checkpoint(options.model);
  const Tokenizer tokenizer(checkpoint.tokenizer);
  const std::string text = read_source(options.data);

  EvalResult result;
  result.protocol.data = options.data;
  result.protocol.data_hash = content_hash(as_bytes(text));
  result.protocol.tokenizer_hash = tokenizer.hash();
  const Ids ids = tokenize_text(tokenizer, text, checkpoint.config.vocab_size, options.data);
  const std::vector<Sequence> sequences = scored_chunks(tokenizer, ids, options);
  const std::int64_t context = options.chunking.context;
  result.protocol.context = context;
  result.protocol.chunks = static_cast<std::int64_t>(sequences.size());
  result.protocol.tokens = static_cast<std::int64_t>(ids.size());
  result.protocol.bytes = static_cast<std::int64_t>(text.size());

  // Whatever can be refused is refused before weights are read.
  std::shared_ptr<Decoder> reference;
  std::optional<Checkpoint> whole;  // the reference, if the model's vocabulary is a part of its own
  if (!options.reference.empty()) {
    Checkpoint other = open_checkpoint(options.reference);
    const auto kept = checkpoint.config.vocab_size < other.config.vocab_size
                          ? ids_within(checkpoint.tokenizer, other.tokenizer)
                          : std::nullopt;
    if (kept) whole = std::exchange(other, select_tokens(other, *kept));
    if (checkpoint.config.vocab_size != other.config.vocab_size)
      fail("eval: the model's vocabulary has ", checkpoint.config.vocab_size, " entries, the reference's ",
           other.config.vocab_size, "; divergence needs one vocabulary");
    require_same_tokens(checkpoint.tokenizer, other.tokenizer);
    const Tokenizer other_tokenizer(other.tokenizer);
    if (other_tokenizer.hash() != tokenizer.hash())  // the same tokenizer may come from files that say it differently
      require_same_ids(ids, tokenize_text(other_tokenizer, text, other.config.vocab_size, options.data), tokenizer);
    warn_about_length(other, context);
    result.reference = summary(whole ? *whole : other, options.reference);
    reference = load_decoder(other, device);
  }
  warn_about_length(checkpoint, context);
  result.model = summary(checkpoint, options.model);
  const std::shared_ptr<Decoder> model = load_decoder(checkpoint, device);

  TokenScores scores = measure(*model, reference.get(), sequences, "eval");
  scores.bytes = scored_bytes(tokenizer, sequences);
  summarise(std::move(scores), result);
  if (whole) measure_whole_reference(*whole, text, options, device, result);
  if (measures_cloze(options))
    result.cloze = cloze_accuracy(*model, tokenizer, cloze_items(Split::kHeldout, options.cloze_items));
  return result;
}

}  // namespace attar
