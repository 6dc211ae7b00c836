// SPDX-License-Identifier: Apache-2.0
// klab rl: reinforcement learning with verifiable rewards.
#include <fmt/format.h>

#include <optional>

#include "core/base/error.h"
#include "core/base/message.h"
#include "core/base/progress.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "experiments/cli/training.h"

namespace klab {
namespace {

constexpr int64_t kIterationsToWarn = 10;

std::string describe(const IterationReport& report) {
  return fmt::format("reward {:.3f}  kl {:.2g}  entropy {:.3f}  length {:.1f}  rollout {} tokens/s  update {} tokens/s",
                     report.reward, report.kl, report.entropy, report.length,
                     short_count(report.rollout_tokens_per_second()), short_count(report.update_tokens_per_second()));
}

std::string describe(int64_t step, const RlEvaluation& evaluation) {
  std::string line = fmt::format("step {:>5}  greedy: accuracy {:.3f}  reward {:.3f}  length {:.1f}", step,
                                 evaluation.score.acc_seq(), evaluation.reward, evaluation.length);
  if (evaluation.supervised.targets > 0) {
    line += fmt::format("  supervised tasks: accuracy {:.3f}", evaluation.supervised.acc_seq());
  }
  return line;
}

std::string without_signal(const RlStatus& status) {
  return fmt::format(
      "{} iterations in a row changed nothing: the {} answers to each prompt all had the same reward (the last reward "
      "is {:.3f}). Start from a policy that is sometimes right, or use easier prompts, more rl.samples, or a graded "
      "reward",
      status.iterations_without_signal, status.iteration.all_right > 0.5 ? "right" : "wrong", status.iteration.reward);
}

void log_to(TensorboardWriter& writer, const RlStatus& status, bool evaluated) {
  const IterationReport& report = status.iteration;
  std::vector<std::pair<std::string, double>> values{{"reward/train", report.reward},
                                                     {"accuracy/train", report.accuracy},
                                                     {"kl", report.kl},
                                                     {"entropy", report.entropy},
                                                     {"length", report.length},
                                                     {"loss/policy", report.loss},
                                                     {"kl_weight", report.kl_weight},
                                                     {"updates", static_cast<double>(report.updates)},
                                                     {"groups/all_right", report.all_right},
                                                     {"groups/all_equal", report.all_equal},
                                                     {"importance/mean", report.importance.mean},
                                                     {"importance/clipped", report.importance.clipped_share},
                                                     {"tokens_per_second", status.train.tokens_per_second}};
  if (evaluated) {
    values.emplace_back("reward/validation", status.evaluation.reward);
    values.emplace_back("accuracy/validation", status.evaluation.score.acc_seq());
    if (status.evaluation.supervised.targets > 0) {
      values.emplace_back("accuracy/supervised", status.evaluation.supervised.acc_seq());
    }
  }
  writer.scalars(status.train.step, values);
}

// Seconds of all iterations of this call.
struct TimeShares {
  double rollout = 0, reward = 0, update = 0, tokens = 0;

  void add(const IterationReport& report) {
    rollout += report.rollout_seconds;
    reward += report.reward_seconds;
    update += report.update_seconds;
    tokens += static_cast<double>(report.tokens);
  }

  std::string text() const {
    const double percent = 100 / (rollout + reward + update);
    return fmt::format("rollout {:.1f} % of the time ({} tokens/s), reward {:.1f} %, update {:.1f} % ({} tokens/s)",
                       percent * rollout, short_count(tokens / rollout), percent * reward, percent * update,
                       short_count(tokens / update));
  }
};

void print_summary(const RunRecord& record, const TimeShares& shares, const std::string& folder) {
  const auto row = [](const char* name, int64_t step, const Metrics& validation, const Metrics& test) {
    return std::vector<std::string>{name, fmt::format("{}", step), fmt::format("{:.4f}", validation.acc_seq),
                                    fmt::format("{:.4f}", test.acc_seq)};
  };
  fmt::print("done after {} iterations; accuracy of greedy answers:\n{}", record.step,
             format_table({"parameters", "step", "validation", "test"},
                          {row("last", record.step, record.last, record.test),
                           row("best", record.best_step, record.best, record.best_test)}));
  if (shares.tokens > 0) fmt::print("{}\n", shares.text());
  fmt::print("time {}; files in {}\n", clock_time(record.seconds), folder);
}

int reinforce(const NewRun& run, const Globals& globals) {
  const RunConfig config = run_config_of(run, globals, /*reinforced=*/true);
  RankGroup alone;
  const OpenRun opened = open_new_run(config, globals, alone);
  return reinforce_to_the_end(config, opened.folder, globals, {.resume = false, .tensorboard = run.tensorboard});
}

}  // namespace

int reinforce_to_the_end(const RunConfig& config, const RunFolder& folder, const Globals& globals,
                         const TrainOptions& options) {
  std::optional<TensorboardWriter> tensorboard;
  std::optional<Progress> progress;
  TimeShares shares;
  RunOptions how = run_options(globals, options);
  how.watch_rl = [&](const RlStatus& status, bool evaluated) {
    if (status.train.step > 0) {
      shares.add(status.iteration);
      progress->update(status.train.step, describe(status.iteration));
    }
    if (evaluated) progress->note(describe(status.train.step, status.evaluation));
    if (tensorboard && status.train.step > 0) log_to(*tensorboard, status, evaluated);
    if (status.iterations_without_signal > 0 && status.iterations_without_signal % kIterationsToWarn == 0) {
      progress->note(without_signal(status));
    }
  };
  const RunRecord record = train_run(folder, how, [&](const RunRecord& now, const TrainStatus* status, bool) {
    if (status != nullptr) return;
    if (options.tensorboard) tensorboard.emplace(folder.path + "/tensorboard", now.step);
    if (!globals.quiet) {
      print_message("{} on {}: {} iterations of {} x {} answers; files in {}", join(config.model.pattern, "-"),
                    config.task.name, config.train.steps, config.rl->prompts, config.rl->samples, folder.path);
    }
    progress.emplace(config.run_name(), config.train.steps, now.step, globals.quiet);
  });
  progress.reset();
  if (record.state != RunState::finished) fail("{}", record.reason);
  PlotOptions picture;
  picture.y = "accuracy";
  picture.split = "all";
  draw_run(folder, config, picture);
  print_summary(record, shares, folder.path);
  return 0;
}

Command rl_command() {
  return {"rl", "train by reinforcement learning with verifiable rewards, from a trained model",
          "./klab rl --train.from runs/sft --task.name question --task.length 32 --out runs/rl",
          takes::threads | takes::device | takes::seed | takes::out | takes::quiet,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            const auto run = add_run_options(app, /*reinforced=*/true);
            return [run, &globals] { return reinforce(*run, globals); };
          }};
}

}  // namespace klab
