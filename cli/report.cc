// attar report: one page from result files.
#include <iostream>
#include <memory>

#include "base/error.h"
#include "base/files.h"
#include "cli/command.h"
#include "eval/report/digest.h"
#include "eval/report/page.h"

namespace attar::cli {
namespace {

struct ReportOptions {
  Common common;
  std::vector<std::string> results;
  std::filesystem::path output;
  std::string format;
};

int run_report(const ReportOptions& options) {
  const bool markdown = options.format.empty() ? options.output.extension() == ".md" : options.format == "markdown";
  refuse_overwriting("report", options.results, {options.output.string(), options.common.json});
  if (std::error_code ignored; fs::is_regular_file(options.output, ignored)) fs::remove(options.output, ignored);  // of an earlier run: this one may break off
  const Report report = read_results(options.results);
  write_text_file(options.output, markdown ? markdown_page(report) : html_page(report));
  const Verdict verdict = judge(report);
  std::cout << verdict.sentence << "\n";
  for (const std::string& reason : verdict.reasons) std::cout << "  " << reason << "\n";
  for (const std::string& fact : plain_facts(report)) std::cout << fact << "\n";
  std::cout << options.output.string() << "\n";
  write_result(options.common, "report",
               {{"output", options.output.string()}, {"outcome", verdict.outcome}, {"sentence", verdict.sentence}, {"reasons", verdict.reasons}});
  return kDone;
}

}  // namespace

void add_report(CLI::App* sub) {
  auto options = std::make_shared<ReportOptions>();
  set_action(*sub, options->common, [options] { return run_report(*options); });
  sub->add_option("results", options->results,
                  "What eval, compare, generate, calibrate, quantize, prune, distill, bench and run wrote with --json, and train.jsonl of a distilled student")
      ->required()
      ->type_name("RESULT.json");
  sub->add_option("-o,--output", options->output, "The page to write; a name ending in .md asks for Markdown")->required()->type_name("FILE");
  sub->add_option("--format", options->format, "html or markdown, whatever the name's ending")->check(CLI::IsMember({"html", "markdown"}));
}

}  // namespace attar::cli
