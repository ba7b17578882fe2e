#include <iostream>

#include "base/error.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/numbers.h"
#include "distill/data.h"
#include "distill/job.h"

namespace attar::cli {
namespace {

struct DistillOptions {
  Common common;
  DistillJob job;
  std::string loss = "forward_kl", schedule = "cosine", hidden_measure = "cosine", layer_map = "uniform";
};

void print_summary(const nlohmann::json& result) {
  std::cout << "student: " << result.at("parameters").get<std::uint64_t>() << " parameters, trained on "
            << result.at("tokens").get<std::int64_t>() << " tokens in " << result.at("steps").get<std::int64_t>()
            << " steps\n";
  if (result.contains("heldout")) {
    const auto& heldout = result.at("heldout");
    std::cout << "held-out: perplexity " << heldout.at("perplexity").get<double>();
    if (heldout.contains("kl")) {
      std::cout << ", KL to the teacher " << heldout.at("kl").get<double>();
      if (heldout.contains("kl_uncertainty")) std::cout << " ± " << heldout.at("kl_uncertainty").get<double>();
      std::cout << ", same top " << 100 * heldout.at("same_top").get<double>() << " %";
    }
    std::cout << "\n";
  }
  if (result.contains("best")) {
    const auto& best = result.at("best");
    const bool kl = best.contains("kl");
    std::cout << "best evaluation: " << (kl ? "KL " : "loss ") << best.at(kl ? "kl" : "cross_entropy").get<double>() << " after step "
              << best.at("step").get<std::int64_t>() << (result.contains("last") ? "; these weights are the student, the last ones lie in "
                                                                                 : "; the student has the last weights, these lie in ")
              << (result.contains("last") ? result.at("last") : best).at("output").get<std::string>() << "\n";
  }
  std::cout << result.at("output").get<std::string>() << "\n";
}

int run_distill(DistillOptions& options) {
  const DistillJob& job = options.job;
  std::vector<std::string> read = {job.teacher.string(), job.student.string(), job.heldout};
  for (const std::string& source : job.data) read.push_back(source_of(source));
  refuse_overwriting("distill", read, {job.output.string(), options.common.json});
  keep_freed_memory();
  options.job.seed = options.common.seed;
  options.job.trainer.loss.divergence = parse_divergence(options.loss);
  options.job.trainer.schedule.decay = parse_decay(options.schedule);
  options.job.trainer.match.measure = parse_hidden_measure(options.hidden_measure);
  options.job.trainer.match.map = parse_layer_map(options.layer_map);
  nlohmann::json result = run_distillation(options.job);
  if (result.is_null()) return kDone;  // one of several processes, not the one that reports
  print_summary(result);
  if (!options.job.teacher.empty()) add_model(result, options.common, "teacher", options.job.teacher);
  add_model(result, options.common, "output", options.job.output);
  write_result(options.common, "distill", result);
  return kDone;
}

}  // namespace

void add_distill(CLI::App* sub) {
  auto options = std::make_shared<DistillOptions>();
  DistillJob& job = options->job;
  TrainerOptions& trainer = job.trainer;
  set_action(*sub, options->common, [options] { return run_distill(*options); });
  sub->add_option("--teacher", job.teacher, "Model to learn from; without one the text is all there is");
  sub->add_option("--student", job.student,
                  "Model to train; a folder with only config.json (and tokenizer) starts from random weights")
      ->required();
  sub->add_option("--data", job.data,
                  "Text to train on: .txt, .jsonl (text, messages or input_ids) or builtin:train (a stream of new stories); "
                  "repeated as SOURCE:WEIGHT for a mixture. Files may be larger than memory: in it are 24 bytes for each document and the documents of two "
                  "blocks of 64 chunks, long texts of a .txt in pieces of 1 MiB")
      ->required()
      ->allow_extra_args(false);
  sub->add_option("--heldout", job.heldout, "Text to evaluate on while training");
  sub->add_option("-o,--output", job.output, "Folder for the trained student")->required();
  const auto option = [sub](const char* name, auto& value, const std::string& help) {
    return sub->add_option(name, value, help)->capture_default_str();
  };
  option("--packing", job.packing,
         "joined: texts behind each other, cut where a chunk is full; documents: each whole and blind to the others");
  option("--steps", trainer.steps, "Updates of the weights");
  option("--batch", trainer.batch, "Chunks of text per update, of all processes together");
  option("--micro-batch", trainer.micro_batch, "Chunks at a time, to save memory; 0: the whole batch");
  option("--context", trainer.context, "Tokens per chunk");
  option("--lr", trainer.schedule.peak, "Learning rate at its peak");
  option("--lr-floor", trainer.schedule.floor_share, "Learning rate at the end, as a share of the peak");
  option("--warmup", trainer.schedule.warmup, "Steps over which the learning rate rises");
  option("--schedule", options->schedule, "How the learning rate falls after the warm-up: cosine, linear or constant");
  option("--loss", options->loss, "How far the student is from its teacher; one of " + divergence_help());
  option("--temperature", trainer.loss.temperature, "Softens both distributions before they are compared");
  option("--alpha", trainer.loss.alpha, "Weight of the next-token loss; the rest is the teacher's");
  option("--match-hidden", trainer.match.hidden, "Weight of the distance between hidden states of student and teacher; 0: none")
      ->check(kNotNegative);
  option("--hidden-measure", options->hidden_measure, "How hidden states are compared: cosine or mse");
  option("--match-attention", trainer.match.attention,
         "Weight of the distance between the attention of student and teacher: relations of queries, keys and values; 0: none")
      ->check(kNotNegative);
  option("--relation-heads", trainer.match.relation_heads, "Heads that relations are cut into, for both models; 0: the teacher's, if they fit");
  option("--layer-map", options->layer_map,
         "Which layers are matched: uniform, last, learned, or STUDENT:TEACHER,... counted from 0, such as 0:1,1:3");
  option("--on-policy", trainer.on_policy.lambda, "Share of chunks whose text the student writes itself, for the teacher to judge")
      ->check(between(0, 1));
  option("--weight-decay", trainer.adamw.weight_decay, "Pull of matrices towards zero");
  option("--beta1", trainer.adamw.beta1, "AdamW: memory of the first moment");
  option("--beta2", trainer.adamw.beta2, "AdamW: memory of the second moment");
  option("--clip", trainer.clip, "Largest gradient norm; 0: any");
  option("--ema", trainer.ema, "Decay of an average of the weights, which is evaluated and written instead of them; 0: none");
  sub->add_flag("--checkpoint-activations", trainer.checkpoint_activations,
                "Keep only what enters each layer and compute the rest again: less memory, a third more work, the same result");
  sub->add_option("--cache", job.cache,
                  "Folder for the teacher's predictions, about 100 bytes a token: it runs once, and is not in memory while the student learns");
  option("--log-every", job.log_every, "Steps between lines of train.jsonl; 0: none");
  option("--eval-every", job.eval_every,
         "Steps between evaluations on --heldout; the weights of the best one lie in OUTPUT/best in the end. 0: only at the end");
  option("--eval-chunks", job.eval_chunks, "Held-out chunks to evaluate on");
  option("--patience", job.patience,
         "Evaluations in a row without a better one that end the training; the best weights are then the result, and the last ones lie in "
         "OUTPUT/last. 0: never");
  option("--checkpoint-every", job.checkpoint_every, "Steps between checkpoints of the training; 0: only on Ctrl-C");
  sub->add_flag("--resume", job.resume, "Go on with an interrupted run, if there is one");
  option("--device", job.device, "cpu, cuda or cuda:N");
  option("--compute", job.compute,
         "f32, or bf16: activations and matrix products in bfloat16; weights, gradients' sums, moments, norms, softmax and losses stay f32. On a CPU it is faster only "
         "where that has instructions for it (AVX512-BF16)");
  sub->add_flag("--tf32", job.tf32, "CUDA: faster, less exact matrix products");
  option("--dtype", job.dtype, "Type of the weights written: f32, f16 or bf16");
}

}  // namespace attar::cli
