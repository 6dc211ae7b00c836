#include "experiments/run/run_config.h"

#include <algorithm>
#include <set>

#include "core/base/text.h"
#include "core/public/kimi_config.h"

namespace klab {

namespace {

// "length=128 mqar.pairs=8" over the task's own keys.
TaskVariant variant_of(const RunConfig& base, const std::string& key, const std::string& text, bool weighted) {
  TaskVariant variant{text, base.task};
  std::vector<Assignment> assignments;
  for (const std::string& word : split(text, ' ')) {
    if (word.empty()) continue;
    const size_t equals = word.find('=');
    require(equals != std::string::npos && equals > 0, key, text, "must be words like length=128");
    const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
    if (name == "weight" && weighted) {
      require(!value.empty() && value.size() < 7 && value.find_first_not_of("0123456789") == std::string::npos &&
                  std::stoll(value) > 0,
              key, text, "must have a weight that is a whole number from 1 to 999999");
      variant.weight = std::stoll(value);
    } else {
      assignments.push_back({"task." + name, value, fmt::format("{} '{}'", key, text)});
    }
  }
  struct Root : Configurable {
    TaskConfig& task;
    explicit Root(TaskConfig& t) : task(t) {}
    void visit(Fields& fields) override { fields.group("task", task); }
  } root(variant.task);
  assign(root, assignments);
  variant.task.validate();
  return variant;
}

std::vector<TaskVariant> variants_of(const RunConfig& base, const std::string& key,
                                     const std::vector<std::string>& texts, bool weighted) {
  std::vector<TaskVariant> all;
  for (const std::string& text : texts) all.push_back(variant_of(base, key, text, weighted));
  return all;
}

}  // namespace

void MixtureConfig::visit(Fields& fields) {
  fields("tasks", tasks,
         "variants of the task to train on as well, each like \"length=128 mqar.pairs=8 weight=2\"; a batch is of one, "
         "drawn by weight (1 where it is not said, and of the task itself)",
         /*may_be_empty=*/true);
}

void TestConfig::visit(Fields& fields) {
  fields("also", also, "variants of the task to test at the end, each like \"length=256\": evaluations.csv",
         /*may_be_empty=*/true);
  fields("examples", examples, "held-out sequences of each of them");
}

void TestConfig::validate() const {
  require(examples >= 1, "test.examples", fmt::format("{}", examples), "must be at least 1");
}

void RunConfig::visit(Fields& fields) {
  fields.group("task", task);
  fields.group("model", model);
  fields.group("train", train);
  fields.group("mixture", mixture);
  fields.group("test", test);
}

std::vector<TaskVariant> RunConfig::trained_variants() const {
  return variants_of(*this, "mixture.tasks", mixture.tasks, /*weighted=*/true);
}

std::vector<TaskVariant> RunConfig::tested_variants() const {
  return variants_of(*this, "test.also", test.also, /*weighted=*/false);
}

void RunConfig::validate() const {
  task.validate();
  model.validate();
  train.validate();
  test.validate();
  const int64_t needed = task_vocabulary();
  require(vocabulary() >= needed, "model.vocab", fmt::format("{}", model.vocab),
          fmt::format("must be at least {}, the vocabulary of task {} (0: just that)", needed, task.name));
}

int64_t RunConfig::task_vocabulary() const {
  int64_t most = task.make()->vocabulary();
  for (const std::vector<TaskVariant>& variants : {trained_variants(), tested_variants()}) {
    for (const TaskVariant& variant : variants) most = std::max(most, variant.task.make()->vocabulary());
  }
  return most;
}

int64_t RunConfig::vocabulary() const { return model.vocab > 0 ? model.vocab : task_vocabulary(); }

std::string RunConfig::run_name() {
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
    const std::vector<Assignment> keys = read_public_config(given.text).model;
    all.insert(all.end(), keys.begin(), keys.end());
  }
  return all;
}

RunConfig make_run_config(const std::vector<Assignment>& assignments) {
  RunConfig config;
  assign(config, with_public_config(assignments));
  config.validate();
  return config;
}

const std::vector<Field>& all_run_fields() {
  // Static, because the fields' accessors refer to the configs, and because three commands ask for them at every start.
  static std::vector<std::unique_ptr<RunConfig>> configs;
  static const std::vector<Field> all = [] {
    std::vector<Field> fields;
    std::set<std::string> seen;
    for (const std::string& name : tasks().names()) {
      RunConfig& config = *configs.emplace_back(std::make_unique<RunConfig>());
      config.task.name = name;
      config.model.pattern = mixers().names();
      const Fields of_task = Fields::of(config);
      for (const Field& field : of_task.all()) {
        if (seen.insert(field.key).second) fields.push_back(field);
      }
    }
    return fields;
  }();
  return all;
}

}  // namespace klab
