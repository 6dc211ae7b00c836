// SPDX-License-Identifier: Apache-2.0
// klab demo: a small study that compares KDA, Gated DeltaNet and Mamba2 on associative recall.
#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "experiments/command/command.h"
#include "experiments/figures/study_report/study_report.h"
#include "experiments/plot/plot.h"
#include "experiments/study/bounded_mean.h"
#include "experiments/sweep/sweep.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

// The curriculum of the file holds for the file's number of steps only.
StudyFile demo_study(int64_t steps, const Globals& globals) {
  std::vector<Assignment> overrides;
  if (steps > 0) {
    overrides.push_back({"train.steps", steps, "--steps"});
    overrides.push_back({"train.phases", Value::array(), "--steps"});
  }
  if (globals.seed) overrides.push_back({"train.seed", *globals.seed, "--seed"});
  return read_builtin_study("configs/demo.yaml", overrides);
}

// An interrupted demo continues; a complete one is run again.
void remove_complete(const std::string& out) {
  const SweepFolder seeds(out + "/runs-demo/seeds");
  if (!std::filesystem::exists(seeds.plan()) || !read_outcome(seeds).complete()) return;
  std::filesystem::remove_all(out + "/runs-demo");
  std::filesystem::remove(out + "/study.yaml");
}

void print_setting(const StudyFile& file) {
  const RunConfig& config = file.search.configs.front();
  fmt::print(
      "Associative recall (MQAR): read {0} key-value pairs, then predict the value of each queried key.\n"
      "{1} layers x {2} head x key width {3}: every mixer has a state of {3} x {3} numbers per layer, and all other\n"
      "settings are equal. The learning rate of each mixer is chosen on validation data with one seed; then {4} new "
      "seeds\n"
      "are tested on other data.\n\n"
      "What to expect: Mamba2 only adds to its state, so every new pair disturbs the earlier ones. GDN and KDA first "
      "erase\n"
      "what the state holds under the key (the delta rule). GDN has one decay per head, KDA one per channel.\n\n",
      config.task.length / 4, config.model.layers, config.model.heads, config.model.head_dim, file.study.seeds);
  std::fflush(stdout);
}

std::string seeds_text(const std::vector<double>& values) {
  std::vector<std::string> words;
  for (const double value : values) words.push_back(fmt::format("{:.0f}", 100 * value));
  return join(words, " ");
}

std::string demo_table(const Study& study, const StudyCell& cell) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [mixer, runs] : cell.runs) {
    const std::vector<double> values = outcomes(runs, study.config.metric);
    const Interval interval = mean_interval(values, {0, 1});
    const RunRecord& record = runs.front()->record;
    rows.push_back({mixer, short_text(runs.front()->field(study.config.choose)), fmt::format("{}", record.parameters),
                    fmt::format("{}", record.state_bytes), fmt::format("{:.1f}", 100 * mean_of(values)),
                    fmt::format("{:.0f} to {:.0f}", 100 * interval.low, 100 * interval.high), seeds_text(values),
                    short_count(record.tokens_per_second)});
  }
  return format_table(
      {"mixer", "lr", "parameters", "state bytes", "tokens right %", "95 % interval", "every seed", "tokens/s"}, rows);
}

// What a verdict says, in a sentence.
std::string sentence(const Claim& claim, const Judgement& judgement, const Question& question) {
  const double points = 100 * judgement.effect;
  switch (judgement.verdict) {
    case Verdict::held:
      return fmt::format("{} recalls more than {} here: {:+.1f} points, {}.", claim.better, claim.than, points,
                         verdict_text(judgement, question));
    case Verdict::reversed:
      return fmt::format("{} recalls less than {} here: {:+.1f} points, {}.", claim.better, claim.than, points,
                         verdict_text(judgement, question));
    case Verdict::equal:
      return fmt::format("{} and {} do not differ here by more than {:g} points ({:+.1f}).", claim.better, claim.than,
                         100 * question.margin, points);
    default:
      return fmt::format("{} and {}: {:+.1f} points, {}.", claim.better, claim.than, points,
                         verdict_text(judgement, question));
  }
}

void draw(const std::string& out) {
  PlotOptions picture;
  picture.files = {out + "/curves.csv"};
  picture.group_by = "model.pattern";
  picture.x = "step";
  picture.y = "acc_tok";
  picture.out = out + "/demo.png";
  picture.title = "Associative recall on validation data, every seed";
  plot(picture);
}

int demo(int64_t steps, int64_t workers, const Globals& globals) {
  StudyOptions options;
  options.out = globals.out.empty() ? "out/demo" : globals.out;
  options.workers = workers;
  options.command_line = globals.command_line;
  options.quiet = globals.quiet;
  make_writable_folder(options.out);
  remove_complete(options.out);
  const StudyFile file = demo_study(steps, globals);
  print_setting(file);
  const Clock::time_point begin = Clock::now();
  const Study study = run_study(file, options);
  const StudyVerdicts verdicts = judge_study(study);
  write_study_report(study, verdicts, options.out, "Demo: associative recall");
  draw(options.out);
  fmt::print("\nTest data after training, {}:\n\n{}\n",
             clock_time(std::chrono::duration<double>(Clock::now() - begin).count()),
             demo_table(study, verdicts.cells.front()));
  for (size_t claim = 0; claim < verdicts.claims.size(); ++claim) {
    fmt::print("{}\n", sentence(verdicts.claims[claim], verdicts.primary.front()[claim], verdicts.question));
  }
  fmt::print("\n{0}/page.md has all verdicts; {0}/demo.png, {0}/results.csv, {0}/curves.csv\n", options.out);
  return 0;
}

}  // namespace

Command demo_command() {
  return {
      "demo", "compare KDA, Gated DeltaNet and Mamba2 on a recall task (in minutes; files in out/demo)", "./klab demo",
      takes::seed | takes::out | takes::quiet, [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
        auto steps = std::make_shared<int64_t>(0);
        app.add_option("--steps", *steps, "stop every run after this many steps").positive();
        auto workers = std::make_shared<int64_t>(0);
        app.add_option("--workers", *workers, "parallel runs of one thread each (default: number of cores)").positive();
        return [steps, workers, &globals] { return demo(*steps, *workers, globals); };
      }};
}

}  // namespace klab
