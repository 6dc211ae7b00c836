// SPDX-License-Identifier: Apache-2.0
// klab tasks: prints examples of a task.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"
#include "experiments/command/command.h"
#include "experiments/run/run_config.h"

namespace klab {
namespace {

constexpr size_t kLineWidth = 110;

void print_example(const Task& task, const Example& example, int64_t number) {
  int64_t hardest = 0, targets = 0;
  for (size_t t = 0; t < example.inputs.size(); ++t) {
    if (example.labels[t] == kNoTarget) continue;
    ++targets;
    hardest = std::max(hardest, example.difficulty[t]);
  }
  fmt::print("example {}: {} targets, hardest {} {} (slice {})\n", number, targets, task.difficulty_name(), hardest,
             slice_of(hardest, hardest));
  std::string tokens, labels, difficulties;
  const auto flush = [&] {
    fmt::print("  tokens  {}\n  labels  {}\n  {:<7} {}\n\n", tokens, labels, task.difficulty_name(), difficulties);
    tokens = labels = difficulties = "";
  };
  for (size_t t = 0; t < example.inputs.size(); ++t) {
    const bool target = example.labels[t] != kNoTarget;
    const std::string cells[3] = {task.token_name(example.inputs[t]), target ? task.token_name(example.labels[t]) : "·",
                                  target ? fmt::format("{}", example.difficulty[t]) : ""};
    const size_t width = std::max({cells[0].size(), target ? cells[1].size() : 1, cells[2].size()}) + 1;
    if (tokens.size() + width > kLineWidth) flush();
    tokens += fmt::format("{:<{}}", cells[0], width);
    labels += fmt::format("{:<{}}", cells[1], width);
    difficulties += fmt::format("{:<{}}", cells[2], width);
  }
  flush();
}

int show_examples(const std::string& name, int64_t count, const std::string& split,
                  const std::vector<Assignment>& flags, const Globals& globals) {
  std::vector<Assignment> assignments{{"task.name", name, "command line"}};
  assignments.insert(assignments.end(), flags.begin(), flags.end());
  RunConfig config;
  assign(config, assignments);
  config.task.validate();
  const auto task = config.task.make();
  const int64_t seed = globals.seed.value_or(config.train.seed);
  fmt::print("{}: {} tokens, vocabulary {}; {} stream of seed {}; · marks a position without a target\n\n", name,
             config.task.length, task->vocabulary(), split, seed);
  for (int64_t i = 0; i < count; ++i) {
    print_example(*task, task->example(seed, split_named(split), i), i);
  }
  return 0;
}

int list_tasks(bool names_only) {
  for (const TaskEntry& entry : tasks().entries()) {
    if (names_only) {
      fmt::print("{}\n", entry.name);
    } else {
      fmt::print("{:<18} {}\n", entry.name, entry.summary);
    }
  }
  return 0;
}

}  // namespace

Command tasks_command() {
  return {
      "tasks", "print examples of a task, tokens above labels", "./klab tasks palindrome --task.length 17 --count 2",
      takes::seed, [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
        struct Options {
          std::string name, split = "train";
          int64_t count = 3;
          bool list = false;
          std::vector<Assignment> flags;
        };
        auto options = std::make_shared<Options>();
        app.add_option("NAME", options->name, "task; without it all tasks are listed");
        app.add_option("--count", options->count, "number of examples").positive().show_default();
        app.add_option("--split", options->split, "train, validation or test").one_of({"train", "validation", "test"});
        app.add_flag("--list", options->list, "print only the names, one per line");
        add_run_flags(app, options->flags);
        return [options, &globals] {
          if (options->list || options->name.empty()) return list_tasks(options->list);
          return show_examples(options->name, options->count, options->split, options->flags, globals);
        };
      }};
}

}  // namespace klab
