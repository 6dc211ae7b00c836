// SPDX-License-Identifier: Apache-2.0
// klab train and klab resume: one run in one folder.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/message.h"
#include "core/base/progress.h"
#include "core/base/provenance.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "core/io/checkpoint.h"
#include "experiments/cli/training.h"
#include "experiments/run/device.h"
#include "experiments/run/run_memory.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

std::string describe(const TrainStatus& status) {
  const Score& score = status.train.targets > 0 ? status.train : status.validation;
  if (score.targets == 0) return "";
  const std::string speed = fmt::format("{} tokens/s", short_count(status.tokens_per_second));
  if (score.bytes > 0) {
    return fmt::format("loss {:.3f}  bits/byte {:.3f}  perplexity {:.2f}  {}", score.loss(), score.bits_per_byte(),
                       score.perplexity(), speed);
  }
  if (score.surprisal_sum > 0) {
    return fmt::format("loss {:.3f}  above entropy {:.3f}  {}", score.loss(), score.excess(), speed);
  }
  return fmt::format("loss {:.3f}  acc_tok {:.3f}  acc_seq {:.3f}  {}", score.loss(), score.acc_tok(), score.acc_seq(),
                     speed);
}

void log_to(TensorboardWriter& writer, const TrainStatus& status) {
  const auto both = [&](const char* name, double train, double validation) {
    return std::vector<std::pair<std::string, double>>{{fmt::format("{}/train", name), train},
                                                       {fmt::format("{}/validation", name), validation}};
  };
  std::vector<std::pair<std::string, double>> values{
      {"lr", status.lr}, {"grad_norm", status.grad_norm}, {"tokens_per_second", status.tokens_per_second}};
  for (const auto& pairs : {both("loss", status.train.loss(), status.validation.loss()),
                            both("acc_tok", status.train.acc_tok(), status.validation.acc_tok()),
                            both("acc_seq", status.train.acc_seq(), status.validation.acc_seq())}) {
    values.insert(values.end(), pairs.begin(), pairs.end());
  }
  writer.scalars(status.step, values);
}

void print_summary(const RunConfig& config, const RunRecord& record, double wait_share, const std::string& folder) {
  const auto row = [](const char* name, int64_t step, const Metrics& validation, const Metrics& test) {
    return std::vector<std::string>{name,
                                    fmt::format("{}", step),
                                    fmt::format("{:.4f}", validation.loss),
                                    fmt::format("{:.4f}", validation.acc_tok),
                                    fmt::format("{:.4f}", validation.acc_seq),
                                    fmt::format("{:.4f}", test.loss),
                                    fmt::format("{:.4f}", test.acc_tok),
                                    fmt::format("{:.4f}", test.acc_seq)};
  };
  fmt::print(
      "{} after {} steps\n{}", record.last.acc_seq >= config.train.stop_at ? "success" : "done", record.step,
      format_table({"parameters", "step", "validation: loss", "acc_tok", "acc_seq", "test: loss", "acc_tok", "acc_seq"},
                   {row("last", record.step, record.last, record.test),
                    row("best", record.best_step, record.best, record.best_test)}));
  fmt::print("{} tokens/s; {:.2f} % of the time spent waiting for data; time {}; files in {}\n",
             short_count(record.tokens_per_second), 100 * wait_share, clock_time(record.seconds), folder);
}

Lock make_run_folder(const RunConfig& config, const RunFolder& folder, const Globals& globals) {
  make_writable_folder(folder.path);
  Lock lock = lock_run(folder);
  if (fs::exists(folder.config())) {
    refuse("'{}' already contains a run: continue it with 'klab resume {}', or choose another --out", folder.path,
           folder.path);
  }
  write_file(folder.config(), "# " + globals.command_line + "\n" + to_yaml(config));
  return lock;
}

// The folder of a run that begins or goes on where it was stopped.
OpenRun open_run(const RunFolder& folder, RankGroup& ranks) {
  OpenRun run{folder};
  if (ranks.first()) run.lock.emplace(lock_run(folder));
  ranks.barrier();
  return run;
}

int train(const NewRun& run, const Globals& globals) {
  const RunConfig config = run_config_of(run, globals, /*reinforced=*/false);
  if (config.rl) refuse("the config has keys rl.* or reward.*, which klab train does not use: run it with klab rl");
  return on_ranks(globals, [&](const Globals& here, const Parallelism& parallelism) {
    const OpenRun opened = open_new_run(config, here, *parallelism.ranks);
    return train_to_the_end(config, opened.folder, here,
                            {.resume = false, .tensorboard = run.tensorboard, .parallelism = parallelism});
  });
}

int resume(const std::string& path, bool tensorboard, const Globals& globals) {
  const RunFolder folder{path};
  const RunConfig config = read_run_config(folder);
  if (!fs::exists(folder.last())) {
    print_message("'{}' has no checkpoint yet: starting from the beginning", path);
  } else if (globals.threads == 0) {
    // Bitwise equal results need the same number of threads, because it determines the order of summation.
    at::set_num_threads(load_checkpoint(folder.last(), /*prefix=*/"generator").json_field<int>("threads"));
  }
  return on_ranks(globals, [&](const Globals& here, const Parallelism& parallelism) {
    if (config.rl && !parallelism.ranks->alone()) refuse("reinforcement learning runs in one process");
    const OpenRun opened = open_run(folder, *parallelism.ranks);
    return (config.rl ? reinforce_to_the_end : train_to_the_end)(
        config, opened.folder, here, {.resume = true, .tensorboard = tensorboard, .parallelism = parallelism});
  });
}

}  // namespace

std::shared_ptr<NewRun> add_run_options(CommandOptions& app, bool reinforced) {
  auto run = std::make_shared<NewRun>();
  app.add_option("CONFIG", run->file, "YAML file of config keys; flags override it");
  app.add_flag("--tensorboard", run->tensorboard, kTensorboardHelp);
  add_run_flags(app, run->flags);
  if (reinforced) add_run_flags(app, run->flags, "rl.");
  if (reinforced) add_run_flags(app, run->flags, "reward.");
  return run;
}

RunConfig run_config_of(const NewRun& run, const Globals& globals, bool reinforced) {
  if (!run.file.empty()) require_input(run.file);
  std::vector<Assignment> assignments = run.file.empty() ? std::vector<Assignment>{} : read_yaml(run.file);
  // With this key it is a config of reinforcement learning, whatever else is given.
  if (reinforced) assignments.insert(assignments.begin(), {"reward.name", RewardConfig().name, "the default"});
  assignments.insert(assignments.end(), run.flags.begin(), run.flags.end());
  if (globals.seed) assignments.push_back({"train.seed", *globals.seed, "--seed"});
  return make_run_config(assignments);
}

OpenRun open_new_run(const RunConfig& config, const Globals& globals, RankGroup& ranks) {
  RankLayout layout = globals.layout;
  layout.ranks = ranks.size();
  require_memory(config, open_device(globals.device), layout, std::max<int64_t>(1, globals.processes));
  OpenRun run{{globals.out.empty() ? "runs/" + config.run_name() : globals.out}};
  ranks.barrier();
  if (ranks.first()) run.lock.emplace(make_run_folder(config, run.folder, globals));
  ranks.barrier();
  return run;
}

RunOptions run_options(const Globals& globals, const TrainOptions& options) {
  return {globals.device, provenance(globals.command_line, at::get_num_threads()), options.resume,
          /*memory_checked=*/!options.resume, options.parallelism};
}

void draw_run(const RunFolder& folder, const RunConfig& config, PlotOptions options) {
  options.files = {folder.metrics()};
  options.out = folder.path + "/plot.png";
  options.title = fmt::format("{}: {}", config.task.name, join(config.model.pattern, ", "));
  plot(options);
}

int train_to_the_end(const RunConfig& config, const RunFolder& folder, const Globals& globals,
                     const TrainOptions& options) {
  std::optional<TensorboardWriter> tensorboard;
  std::optional<Progress> progress;
  double wait_share = 0;
  const bool first = options.parallelism.ranks->first();
  const auto begin = [&](int64_t start) {
    if (options.tensorboard && first) tensorboard.emplace(folder.path + "/tensorboard", start);
    if (!globals.quiet) {
      const std::string from = start > 0 ? fmt::format(", from step {}", start) : "";
      print_message("{} on {}: {} steps of {} x {} tokens{}; files in {}", join(config.model.pattern, "-"),
                    config.task.name, config.train.steps, config.train.batch, config.task.length, from, folder.path);
    }
    progress.emplace(config.run_name(), config.train.steps, start, globals.quiet);
  };
  const RunRecord record = train_run(
      folder, run_options(globals, options), [&](const RunRecord& now, const TrainStatus* status, bool evaluated) {
        if (status == nullptr) return begin(now.step);
        wait_share = status->wait_share;
        progress->update(status->step, describe(*status));
        if (!evaluated) return;
        if (tensorboard) log_to(*tensorboard, *status);
        progress->note(fmt::format("step {:>6}  validation loss {:.4f}  acc_tok {:.4f}  acc_seq {:.4f}", status->step,
                                   now.last.loss, now.last.acc_tok, now.last.acc_seq));
      });
  progress.reset();
  if (record.state != RunState::finished) fail("{}", record.reason);
  if (!first) return 0;
  draw_run(folder, config, {});
  print_summary(config, record, wait_share, folder.path);
  return 0;
}

Command train_command() {
  return {"train", "train one model on one task",
          "./klab train --task.name mqar --model.pattern kda,gdn --train.steps 2000 --out runs/first",
          takes::threads | takes::device | takes::seed | takes::out | takes::quiet | takes::ranks | takes::layout |
              takes::checkpoints,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            const auto run = add_run_options(app, /*reinforced=*/false);
            return [run, &globals] { return train(*run, globals); };
          }};
}

Command resume_command() {
  return {"resume", "continue an interrupted run to the same bits", "./klab resume runs/first",
          takes::threads | takes::device | takes::quiet | takes::ranks | takes::layout | takes::checkpoints,
          [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
            auto path = std::make_shared<std::string>();
            app.add_option("RUNDIR", *path, "folder of the run").required();
            auto tensorboard = std::make_shared<bool>(false);
            app.add_flag("--tensorboard", *tensorboard, kTensorboardHelp);
            return [=, &globals] { return resume(*path, *tensorboard, globals); };
          }};
}

}  // namespace klab
