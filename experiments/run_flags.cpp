#include <fmt/format.h>

#include "experiments/command.h"
#include "experiments/run_config.h"

namespace klab {

void add_run_flags(CommandOptions& app, std::vector<Assignment>& assignments) {
  const auto assign_to = [&assignments](const std::string& key) {
    return [&assignments, key](const std::string& text) { assignments.push_back({key, text, "command line"}); };
  };
  app.add_function(
      "--model.config", assign_to("model.config"),
      "a public config.json, a folder with one, or kimi-linear-48b, in the place of the model keys that it says; "
      "flags behind it override them",
      "Config: model");
  for (const Field& field : all_run_fields()) {
    app.add_function("--" + field.key, assign_to(field.key),
                     fmt::format("{} [{}] ({})", field.help, field.get(), field.type),
                     "Config: " + field.key.substr(0, field.key.find('.')));
  }
}

}  // namespace klab
