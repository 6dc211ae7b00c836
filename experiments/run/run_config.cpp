// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run_config.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <set>

#include "core/base/text.h"
#include "core/public/public_config.h"
#include "core/rl/rl_trainer.h"

namespace klab {

namespace {

constexpr int64_t kLargestWeight = 1'000'000;

// A variant with files of its own does not have the data hash of the run's task.
void forget_hash_of_other_files(TaskConfig& task, const Value& settings) {
  const std::string files = task.name + ".files", hash = task.name + ".hash";
  if (!settings.contains(files) || settings.contains(hash)) return;
  Fields fields = Fields::of(task);
  if (const Field* field = fields.find(hash)) field->set("");
}

// Applies the `task.*` keys of one variant, and reads its weight.
TaskVariant variant_of(const TaskConfig& base, const std::string& key, const Value& settings, bool weighted) {
  struct Root : Configurable {
    TaskVariant variant;
    bool weighted = false;
    void visit(Fields& fields) override {
      variant.task.visit(fields);
      if (weighted) fields("weight", variant.weight, {1, kLargestWeight}, "share of the batches");
    }
  } root;
  root.variant.task = base;
  root.weighted = weighted;
  std::vector<Assignment> assignments;
  std::vector<std::string> words;
  for (const auto& [name, value] : settings.items()) {
    assignments.push_back({name, value, key});
    if (name != "weight") words.push_back(fmt::format("{}={}", name, text_of(value)));
  }
  assign(root, assignments);
  forget_hash_of_other_files(root.variant.task, settings);
  root.variant.task.validate();
  root.variant.name = join(words, " ");
  return root.variant;
}

std::vector<TaskVariant> variants_of(const TaskConfig& base, const std::string& key, const std::vector<Value>& list,
                                     bool weighted) {
  std::vector<TaskVariant> all;
  for (size_t i = 0; i < list.size(); ++i) {
    all.push_back(variant_of(base, fmt::format("{}[{}]", key, i), list[i], weighted));
  }
  return all;
}

// A task, then the variants of its mixture.
std::vector<TaskVariant> with_mixture(const TaskConfig& task, const std::string& key, const MixtureConfig& mixture) {
  std::vector<TaskVariant> all{{"", task}};
  for (TaskVariant& variant : variants_of(task, key, mixture.tasks, /*weighted=*/true)) {
    all.push_back(std::move(variant));
  }
  return all;
}

}  // namespace

std::vector<Phase> RunConfig::phases() const {
  struct Root : Configurable {
    Phase phase{0, {}, 0, 0};
    TaskConfig task;
    MixtureConfig mixture;
    void visit(Fields& fields) override {
      fields("steps", phase.steps, {1, 1'000'000'000}, "steps of this phase");
      fields("train.batch", phase.batch, {1, 1'000'000}, "sequences per step");
      fields("train.lr", phase.lr, {0, 1e30, Ends::above_least}, "peak of the schedule in these steps");
      fields.group("task", task);
      fields.group("mixture", mixture);
    }
  };
  std::vector<Phase> all;
  int64_t steps = 0;
  for (size_t i = 0; i < train.phases.size(); ++i) {
    const std::string key = fmt::format("train.phases[{}]", i);
    Root root;
    root.task = task;
    root.phase.batch = train.batch;
    root.phase.lr = train.lr;
    std::vector<Assignment> assignments;
    for (const auto& [name, value] : train.phases[i].items()) assignments.push_back({name, value, key});
    assign(root, assignments);
    root.task.validate();
    root.phase.tasks = with_mixture(root.task, key + ".mixture.tasks", root.mixture);
    require(root.phase.steps > 0, key, train.phases[i].dump(), "must have the key steps");
    require(root.phase.batch % train.accumulate == 0, key + ".train.batch", fmt::format("{}", root.phase.batch),
            fmt::format("must be a multiple of train.accumulate = {}", train.accumulate));
    steps += root.phase.steps;
    all.push_back(root.phase);
  }
  require(steps < train.steps, "train.phases", fmt::format("{} steps", steps),
          fmt::format("must leave at least one of train.steps = {} for the task itself", train.steps));
  return all;
}

void MixtureConfig::visit(Fields& fields) {
  fields.maps("tasks", tasks,
              "further variants of the task to train on: [{length: 128, mqar.pairs: 8, weight: 2}, ..]; every batch is "
              "of one variant, drawn by weight (default 1, like the task itself)");
}

void TestConfig::visit(Fields& fields) {
  fields.maps("also", also, "variants of the task to evaluate at the end: [{length: 256}, ..]; writes evaluations.csv");
  fields("examples", examples, {1, 1'000'000'000}, "test sequences per variant");
}

void RunConfig::visit(Fields& fields) {
  fields("label", label, "a name for what the run is, to group runs by; nothing depends on it");
  fields.group("task", task);
  fields.group("model", model);
  fields.group("train", train);
  fields.group("mixture", mixture);
  fields.group("test", test);
  if (!rl) return;
  fields.group("rl", *rl);
  fields.group("reward", reward);
}

std::vector<TaskVariant> RunConfig::trained_tasks() const { return with_mixture(task, "mixture.tasks", mixture); }

std::vector<TaskVariant> RunConfig::tested_variants() const {
  return variants_of(task, "test.also", test.also, /*weighted=*/false);
}

std::vector<TaskVariant> RunConfig::ptx_tasks() const {
  if (!rl) return {};
  return variants_of(task, "rl.ptx_tasks", rl->ptx_tasks, /*weighted=*/true);
}

void RunConfig::validate() const {
  check_values(*this);
  task.validate();
  model.validate();
  train.validate();
  if (rl) rl->validate();
  if (rl) require_rl_keys(train);
  const int64_t needed = task_vocabulary();
  require(vocabulary() >= needed, "model.vocab", fmt::format("{}", model.vocab),
          fmt::format("must be at least {}, the vocabulary of task {} (0: exactly that)", needed, task.name));
}

int64_t RunConfig::task_vocabulary() const {
  int64_t most = 0;
  const auto add = [&](const std::vector<TaskVariant>& variants) {
    for (const TaskVariant& variant : variants) most = std::max(most, variant.task.make()->vocabulary());
  };
  for (const Phase& phase : phases()) add(phase.tasks);
  add(trained_tasks());
  add(tested_variants());
  add(ptx_tasks());
  return most;
}

int64_t RunConfig::vocabulary() const { return model.vocab > 0 ? model.vocab : task_vocabulary(); }

std::string RunConfig::run_name() const {
  std::string pattern = join(model.pattern, "-");
  std::replace_if(
      pattern.begin(), pattern.end(), [](char c) { return c == '*' || c == ':' || c == '+'; }, '_');
  return fmt::format("{}-{}-{}", task.name, pattern, config_hash(*this).substr(0, 8));
}

std::vector<Assignment> with_public_config(const std::vector<Assignment>& assignments) {
  std::vector<Assignment> all;
  for (const Assignment& given : assignments) {
    if (given.key != "model.config") {
      all.push_back(given);
      continue;
    }
    const std::vector<Assignment> keys = read_public_config(text_of(given.value)).model;
    all.insert(all.end(), keys.begin(), keys.end());
  }
  return all;
}

bool is_rl_key(const std::string& key) { return key.starts_with("rl.") || key.starts_with("reward."); }

RunConfig assigned_run_config(const std::vector<Assignment>& assignments) {
  RunConfig config;
  const bool reinforced =
      std::any_of(assignments.begin(), assignments.end(), [](const Assignment& one) { return is_rl_key(one.key); });
  if (reinforced) config.rl.emplace();
  assign(config, with_public_config(assignments));
  return config;
}

RunConfig make_run_config(const std::vector<Assignment>& assignments) {
  RunConfig config = assigned_run_config(assignments);
  config.validate();
  config.task.identify_data();
  return config;
}

const RunFields& all_run_fields() {
  // Static, because the fields' accessors refer to the configs, and because three commands use them at every start.
  static std::vector<std::unique_ptr<RunConfig>> configs;
  static const RunFields all = [] {
    RunFields result;
    std::set<std::string> seen;
    const auto add = [&](const std::string& task, const std::string& reward) {
      RunConfig& config = *configs.emplace_back(std::make_unique<RunConfig>());
      config.task.name = task;
      config.model.pattern = mixers().names();
      config.rl.emplace();
      config.reward.name = reward;
      const Fields fields = Fields::of(config);
      for (const Field& field : fields.all()) {
        if (seen.insert(field.key).second) result.fields.push_back(field);
      }
      result.renamed.insert(fields.renamed_keys().begin(), fields.renamed_keys().end());
    };
    for (const std::string& name : tasks().names()) add(name, rewards().names().front());
    for (const std::string& name : rewards().names()) add(tasks().names().front(), name);
    return result;
  }();
  return all;
}

}  // namespace klab
