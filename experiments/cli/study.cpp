// SPDX-License-Identifier: Apache-2.0
// klab study: a question about mixers, from a study file to verdicts.
#include <fmt/format.h>

#include "experiments/command/command.h"
#include "experiments/figures/study_report/study_report.h"

namespace klab {
namespace {

int study(const std::string& file, StudyOptions options, const Globals& globals) {
  require_input(file);
  const StudyFile study_file = read_study(file);
  options.out = globals.out.empty() ? "out/study-" + study_file.name : globals.out;
  options.command_line = globals.command_line;
  options.device = globals.device;
  options.quiet = globals.quiet;
  const Study done = run_study(study_file, options);
  const StudyVerdicts verdicts = judge_study(done);
  write_study_report(done, verdicts, options.out, "Study " + done.name);
  for (const std::string& line : verdict_counts(verdicts)) fmt::print("{}\n", line);
  if (done.out_of_time) fmt::print("the time limit was reached: repeat the command to continue\n");
  fmt::print("{}/page.md\n", options.out);
  return 0;
}

}  // namespace

Command study_command() {
  return {"study", "compare mixers over seeds by a study file: verdicts, page, pictures in out/study-NAME",
          "./klab study my_question.yaml --budget 1", takes::device | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto file = std::make_shared<std::string>();
            app.add_option("FILE", *file, "study file: a sweep file with a section `study`").required();
            auto options = std::make_shared<StudyOptions>();
            app.add_option("--budget", options->budget_hours, "time limit in hours; repeat the command to continue")
                .positive();
            app.add_option("--workers", options->workers, "parallel runs of one thread each (default: number of cores)")
                .positive();
            return [=, &globals] { return study(*file, *options, globals); };
          }};
}

}  // namespace klab
