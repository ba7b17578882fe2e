#include "eval/evaluate.h"

#include "base/console.h"
#include "base/text.h"
#include "convert/checkpoint.h"
#include "datasets/corpus.h"
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
  const auto chunks = cut_chunks(ids, options.chunking, chunk_bos(tokenizer.data()), options.data);
  const std::int64_t context = options.chunking.context;
  result.protocol.context = context;
  result.protocol.chunks = static_cast<std::int64_t>(chunks.size());
  result.protocol.tokens = static_cast<std::int64_t>(ids.size());
  std::vector<Sequence> sequences;
  for (const Ids& chunk : chunks) sequences.push_back({chunk, first_scored(context), context - 1});

  // Whatever can be refused is refused before weights are read.
  std::shared_ptr<Decoder> reference;
  if (!options.reference.empty()) {
    const Checkpoint other = open_checkpoint(options.reference);
    if (checkpoint.config.vocab_size != other.config.vocab_size)
      fail("eval: the model's vocabulary has ", checkpoint.config.vocab_size, " entries, the reference's ",
           other.config.vocab_size, "; divergence needs one vocabulary");
    require_same_tokens(checkpoint.tokenizer, other.tokenizer);
    const Tokenizer other_tokenizer(other.tokenizer);
    if (other_tokenizer.hash() != tokenizer.hash())  // the same tokenizer may come from files that say it differently
      require_same_ids(ids, tokenize_text(other_tokenizer, text, other.config.vocab_size, options.data), tokenizer);
    warn_about_length(other, context);
    result.reference = summary(other, options.reference);
    reference = load_decoder(other, device);
  }
  warn_about_length(checkpoint, context);
  result.model = summary(checkpoint, options.model);
  const std::shared_ptr<Decoder> model = load_decoder(checkpoint, device);

  summarise(measure(*model, reference.get(), sequences, "eval"), result);
  if (measures_cloze(options))
    result.cloze = cloze_accuracy(*model, tokenizer, cloze_items(Split::kHeldout, options.cloze_items));
  return result;
}

}  // namespace attar
