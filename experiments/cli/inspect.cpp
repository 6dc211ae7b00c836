// SPDX-License-Identifier: Apache-2.0
// klab inspect: analyses a trained run.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/text.h"
#include "experiments/command/command.h"
#include "experiments/command/token_input.h"
#include "experiments/inspect/inspection.h"
#include "experiments/inspect/report.h"
#include "experiments/inspect/surgery.h"
#include "experiments/inspect/surgery_page.h"
#include "experiments/inspect/tables.h"
#include "experiments/run/device.h"
#include "experiments/run/run.h"

namespace klab {
namespace {

constexpr int64_t kMostDrawn = 1024;  // maximum number of tokens of a drawn matrix

// Options of --surgery.
struct SurgeryFlags {
  bool on = false;
  std::vector<std::string> with;
  int64_t layer = -1;
};

std::string output_folder(const InspectOptions& options, const Globals& globals) {
  return globals.out.empty() ? options.run + "/inspect" : globals.out;
}

int surgery(const InspectOptions& options, const SurgeryFlags& flags, const Globals& globals) {
  std::vector<std::string> runs{options.run};
  runs.insert(runs.end(), flags.with.begin(), flags.with.end());
  for (const std::string& run : runs) read_run_config({run});  // rejects what is no run before anything is computed
  std::vector<Surgery> all;
  for (const std::string& run : runs) {
    SurgeryOptions how{options, flags.layer, globals.quiet};
    how.run.run = run;
    all.push_back(edit_states(how));
  }
  const std::string folder = output_folder(options, globals);
  make_writable_folder(folder);
  const auto lines = provenance(globals.command_line, at::get_num_threads());
  write_file(folder + "/surgery.csv", surgery_table(all, lines).text());
  write_file(folder + "/surgery.html", surgery_page(all, lines, folder));
  fmt::print("{0}{1}/surgery.csv, {1}/surgery.html\n", surgery_summary(all), folder);
  return 0;
}

int inspect(InspectOptions options, const std::string& tokens, const Globals& globals) {
  if (!tokens.empty()) {
    const std::vector<std::vector<int64_t>> rows = parse_tokens(tokens);
    if (rows.size() > 1) refuse("--tokens: {} sequences, but only one can be drawn; write 5,17,3", rows.size());
    options.tokens = rows.front();
  }
  const std::string folder = output_folder(options, globals);
  const Inspection found = inspect(options);
  make_writable_folder(folder);
  const auto lines = provenance(globals.command_line, at::get_num_threads());
  const std::vector<NamedTable> tables = inspection_tables(found, lines);
  for (const NamedTable& table : tables) write_file(folder + "/" + table.file, table.table.text());
  write_file(folder + "/report.html", inspection_report(found, tables, lines, folder));
  const auto all = static_cast<int64_t>(found.drawn.inputs.size());
  if (found.shown_tokens < all && !globals.quiet) {
    fmt::print(stderr, "matrices show the first {} of {} tokens: --most-tokens up to {} shows more\n",
               found.shown_tokens, all, kMostDrawn);
  }
  if (!found.not_shown.empty()) {
    fmt::print(stderr, "not shown, because their state is not one matrix of the recurrence per head: {}\n",
               join(found.not_shown));
  }
  const Score& score = found.accuracy.all;
  fmt::print("acc_seq {:.4f}, acc_tok {:.4f} on {} examples; {} mixers analysed: {}/report.html\n", score.acc_seq(),
             score.acc_tok(), score.sequences, found.mixers.size(), folder);
  return 0;
}

void check_options(const InspectOptions& options, const std::string& tokens, const SurgeryFlags& flags) {
  if (!tokens.empty() && options.index != 0) refuse("--tokens replaces the example: it excludes --index");
  if (flags.on) {
    if (!tokens.empty()) refuse("--tokens cannot be used with --surgery, which needs examples with targets");
    if (options.index != 0) refuse("--index cannot be used with --surgery, which takes the first --examples examples");
    return;
  }
  if (!flags.with.empty()) refuse("--with {} needs --surgery; a report is of one run", flags.with.front());
  if (flags.layer >= 0) refuse("--layer {} needs --surgery; the report shows all layers", flags.layer);
}

}  // namespace

Command inspect_command() {
  return {"inspect", "analyse a trained run: half-lives, (implicit) attention, ranks of states, accuracy by difficulty",
          "./klab inspect runs/first --length 64 --index 3",
          takes::threads | takes::device | takes::seed | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto options = std::make_shared<InspectOptions>();
            auto tokens = std::make_shared<std::string>();
            auto flags = std::make_shared<SurgeryFlags>();
            app.add_option("RUNDIR", options->run, "folder of the run").required();
            app.add_option("--checkpoint", options->checkpoint, "checkpoint of the run")
                .one_of({"last", "best"})
                .show_default();
            app.add_option("--examples", options->examples,
                           "number of examples for half-lives and accuracy, rounded up to batches, or for --surgery")
                .between(int64_t{1}, int64_t{1'000'000})
                .show_default();
            app.add_option("--index", options->index, "index of the drawn example").not_negative().show_default();
            app.add_option("--tokens", *tokens, "token ids to draw instead of an example: 5,17,3");
            app.add_option("--split", options->split, "split of the examples")
                .one_of({"test", "validation", "train"})
                .show_default();
            app.add_option("--most-tokens", options->most_tokens,
                           "maximum number of tokens shown in matrices, from the start")
                .between(int64_t{2}, kMostDrawn)
                .show_default();
            app.add_flag(
                "--surgery", flags->on,
                "instead of the report: overwrite and erase single associations in a layer's state, and measure "
                "what else changes, over the number of associations");
            app.add_option("--with", flags->with,
                           "with --surgery: another run, in the same table and pictures; may be repeated")
                .one_each();
            app.add_option("--layer", flags->layer,
                           "with --surgery: the layer that is edited (default: the one whose implicit attention finds "
                           "the values best)")
                .not_negative();
            app.add_function(
                "--length",
                [options](const std::string& text) {
                  options->task.push_back({"task.length", text, "--length"});
                },
                "the same as --task.length: tokens of a sequence", "Options");
            add_run_flags(app, options->task, "task.");
            return [options, tokens, flags, &globals] {
              check_options(*options, *tokens, *flags);
              options->seed = globals.seed;
              options->device = open_device(globals.device);
              return flags->on ? surgery(*options, *flags, globals) : inspect(*options, *tokens, globals);
            };
          }};
}

}  // namespace klab
