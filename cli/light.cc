// What the light program does not do itself.
#include "cli/batch.h"
#include "cli/command.h"
#include "cli/compare.h"
#include "cli/describe.h"
#include "cli/golden.h"
#include "cli/hand_over.h"
#include "cli/quantize.h"
#include "model/generate.h"
#include "model/threads.h"

namespace attar {
namespace cli {
namespace {

// Before the first of its options is looked at.
void all_of(CLI::App* sub) {
  sub->preparse_callback([](std::size_t) { need_torch(); });
}

}  // namespace

void need_torch() { throw NeedsTorch{}; }

// Whole commands.
void add_run(CLI::App* sub) { all_of(sub); }
void add_init(CLI::App* sub) { all_of(sub); }
void add_prune(CLI::App* sub) { all_of(sub); }
void add_distill(CLI::App* sub) { all_of(sub); }
void add_calibrate(CLI::App* sub) { all_of(sub); }
void add_eval(CLI::App* sub) { all_of(sub); }

// What tells of every option.
std::string man_page(const CLI::App&) { throw NeedsTorch{}; }
std::string bash_completion(const CLI::App&) { throw NeedsTorch{}; }
std::string zsh_completion(const CLI::App&) { throw NeedsTorch{}; }
std::string fish_completion(const CLI::App&) { throw NeedsTorch{}; }

// What commands do for some models only.
nlohmann::json measure_model(const EvalOptions&) { throw NeedsTorch{}; }
nlohmann::json write_text_batch(const TextBatch&, const Checkpoint&, const std::string&) { throw NeedsTorch{}; }
int quantize_with_torch(const QuantizeCommand&, QuantizeRun) { throw NeedsTorch{}; }
GoldenPart golden_layers(const Checkpoint&, const std::vector<std::int64_t>&) { throw NeedsTorch{}; }

}  // namespace cli

std::unique_ptr<TextModel> load_text_model(const Checkpoint&, const std::string&) { throw cli::NeedsTorch{}; }
void set_up_torch(int) {}  // nothing to set up

}  // namespace attar
