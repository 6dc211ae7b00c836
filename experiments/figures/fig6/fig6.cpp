// SPDX-License-Identifier: Apache-2.0
// Figure 6: reinforcement learning with verifiable rewards of a KDA hybrid and of attention alone, from supervised
// checkpoints, with and without supervised data against forgetting.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "experiments/figures/fig6/rl_page.h"
#include "experiments/figures/study_report/study_report.h"
#include "experiments/plot/plot.h"
#include "experiments/study/time_budget.h"
#include "experiments/sweep/builtin_sweeps.h"

namespace klab {
namespace {

// The supervised runs from which reinforcement learning starts: one for each architecture and seed of the study.
class SupervisedRuns {
 public:
  SupervisedRuns(const StudyFile& study, const Sweep& file, const std::string& folder) : folder_(folder) {
    std::vector<int64_t> seeds = new_seeds(study);
    for (const RunConfig& config : study.search.configs) seeds.push_back(config.train.seed);
    std::sort(seeds.begin(), seeds.end());
    seeds.erase(std::unique(seeds.begin(), seeds.end()), seeds.end());
    std::vector<RunConfig> configs;
    for (const int64_t seed : seeds) {
      for (const RunConfig& config : file.configs) configs.emplace_back(config).train.seed = seed;
    }
    sweep_ = make_sweep("sft", configs, {"label", "train.seed"});
  }

  SweepOutcome train(const ReproduceOptions& options) const {
    SweepOutcome outcome = run_part(sweep_, folder_, options.budget_hours, study_options(options));
    for (size_t i = 0; i < outcome.records.size(); ++i) {
      if (outcome.records[i].state != RunState::diverged) continue;
      fail("supervised run {}: {}", outcome.plan.runs[i].id, outcome.records[i].reason);
    }
    return outcome;
  }

  // Lets a run of the study start from the checkpoint of its architecture and seed.
  void start(RunConfig& config) const {
    for (size_t i = 0; i < sweep_.configs.size(); ++i) {
      const RunConfig& one = sweep_.configs[i];
      if (one.label == config.label && one.train.seed == config.train.seed) {
        config.train.from = SweepFolder(folder_).run(sweep_.plan.runs[i].id).path;
        return;
      }
    }
    fail("there is no supervised run of '{}' with seed {}", config.label, config.train.seed);
  }

 private:
  std::string folder_;
  Sweep sweep_;
};

void draw(const std::string& out, const std::string& split, const std::string& label, const std::string& picture) {
  PlotOptions options;
  options.files = {out + "/iterations.csv"};
  options.x = "step";
  options.y = "accuracy";
  options.split = split;
  options.group_by = "label,rl.ptx_weight";
  options.x_label = "iteration";
  options.y_label = label;
  options.out = out + "/" + picture;
  plot(options);
}

std::vector<std::string> report(const Study& study, const std::string& out) {
  CsvTable table = iterations_table(study.measured);
  table.comments = study.provenance;
  write_file(out + "/iterations.csv", table.text());
  std::vector<std::string> lines = rl_lines(table);
  if (table.rows.empty()) return lines;
  draw(out, "train", "share of right samples", "training.png");
  draw(out, "validation", "accuracy of greedy answers", "held-out.png");
  draw(out, "supervised", "accuracy on the supervised task", "forgetting.png");
  lines.emplace_back();
  for (const char* picture : {"training.png", "held-out.png", "forgetting.png"}) {
    lines.push_back(fmt::format("![{0}]({0})", picture));
  }
  return lines;
}

void run(const ReproduceOptions& options) {
  const TimeBudget budget(options.budget_hours);
  const StudyFile file = read_figure("fig6", options);
  const std::string sft = fmt::format("figures/fig6/{}-sft.yaml", options.scale);
  const SupervisedRuns supervised(file, read_builtin_sweep(sft),
                                  fmt::format("{}/runs-{}/sft", options.out, options.scale));
  if (supervised.train(options).out_of_time) {
    fmt::print("fig6: the supervised runs are not finished; repeat the command to continue\n");
    return;
  }
  write_file(options.out + "/sft.yaml", builtin_sweep(sft));
  StudyOptions how = study_options(options);
  how.budget_hours = budget.left();
  how.prepare = [&](RunConfig& config) { supervised.start(config); };
  const Study study = run_study(file, how);
  const StudyVerdicts verdicts = judge_study(study);
  const std::vector<std::string> introduction = {
      "Reinforcement learning starts from the supervised runs of [sft.yaml](sft.yaml), one for each architecture and "
      "seed.",
      ""};
  write_study_report(study, verdicts, options.out, "Figure 6: reinforcement learning", introduction,
                     report(study, options.out));
  print_verdicts("fig6", verdicts, options.out);
}

}  // namespace

Reproduction fig6_reproduction() {
  return {"fig6", "under reinforcement learning a KDA hybrid rises faster and ends higher than attention alone", run,
          /*has_paper_scale=*/false, /*has_seeds=*/true};
}

}  // namespace klab
