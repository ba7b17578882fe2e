// attar calibrate: what the inputs of every matrix look like on calibration text, kept for quantizing.
#include <iostream>

#include "base/console.h"
#include "base/error.h"
#include "cli/calibration.h"
#include "cli/command.h"
#include "quantize/imatrix.h"

namespace attar::cli {
namespace {

struct CalibrateOptions {
  Common common;
  std::string model, output;
  Calibration calibration;
};

int run_calibrate(const CalibrateOptions& options) {
  refuse_overwriting("calibrate", {options.model, options.calibration.file()}, {options.output, options.common.json});
  check_parent("calibrate", options.output);
  const Checkpoint model = open_checkpoint(options.model);
  std::vector<Ids> chunks = read_calibration(options.calibration, model, options.common);
  limit_samples(chunks, options.calibration);
  ImportanceMatrix imatrix = measure_imatrix(model, chunks, fs::absolute(options.output).parent_path());
  imatrix.datasets = {options.calibration.source};
  write_imatrix(imatrix, options.output);
  std::cout << options.output << ": " << imatrix.entries.size() << " matrices, " << imatrix.chunks << " chunks of "
            << imatrix.chunk_tokens << " tokens\n";
  nlohmann::json result = {{"output", options.output}, {"matrices", imatrix.entries.size()}, {"chunks", imatrix.chunks}, {"chunk_tokens", imatrix.chunk_tokens},
                           {"data", options.calibration.source}};
  add_model(result, options.common, "model", options.model);
  write_result(options.common, "calibrate", std::move(result));
  return kDone;
}

}  // namespace

void add_calibrate(CLI::App* sub) {
  auto options = std::make_shared<CalibrateOptions>();
  set_action(*sub, options->common, [options] { return run_calibrate(*options); });
  sub->add_option("model", options->model, "Hugging Face folder or .gguf")->required()->type_name("MODEL");
  sub->add_option("-o,--output", options->output, "The importance matrix to write, a GGUF as llama-imatrix makes it. In memory is half a layer at a time; hidden states, 4 bytes "
                  "for each token and hidden channel, are on the disk that it is written to")
      ->required()
      ->type_name("FILE");
  add_calibration_options(*sub, options->calibration, "--data", true);
}

}  // namespace attar::cli
