#include "experiments/run_config.h"

#include <algorithm>
#include <set>

#include "core/base/text.h"
#include "core/kimi/config.h"

namespace klab {

void RunConfig::visit(Fields& fields) {
  fields.group("task", task);
  fields.group("model", model);
  fields.group("train", train);
}

void RunConfig::validate() const {
  task.validate();
  model.validate();
  train.validate();
  const int64_t needed = task.make()->vocabulary();
  require(vocabulary() >= needed, "model.vocab", fmt::format("{}", model.vocab),
          fmt::format("must be at least {}, the vocabulary of task {} (0: just that)", needed, task.name));
}

int64_t RunConfig::vocabulary() const { return model.vocab > 0 ? model.vocab : task.make()->vocabulary(); }

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
