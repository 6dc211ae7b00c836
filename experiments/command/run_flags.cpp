// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "core/public/public_config.h"
#include "experiments/command/command.h"
#include "experiments/run/run_config.h"

namespace klab {

void add_run_flags(CommandOptions& app, std::vector<Assignment>& assignments) {
  app.add_function(
      "--model.config",
      [&assignments](const std::string& text) {
        const std::vector<std::string> builtin = builtin_public_configs();
        if (std::find(builtin.begin(), builtin.end(), text) == builtin.end()) require_input(text);
        assignments.push_back({"model.config", text, "command line"});
      },
      "a public config.json, a folder with one, or kimi-linear-48b: sets the model keys that it defines; later flags "
      "override them",
      "Config: model");
  add_run_flags(app, assignments, "");
}

void add_run_flags(CommandOptions& app, std::vector<Assignment>& assignments, const std::string& prefix) {
  const RunFields& all = all_run_fields();
  for (const auto& [old, now] : all.renamed) {
    if (old.starts_with(prefix)) app.add_renamed("--" + old, "--" + now);
  }
  for (const Field& field : all.fields) {
    if (!field.key.starts_with(prefix) || (prefix.empty() && is_rl_key(field.key))) continue;
    app.add_function(
        "--" + field.key,
        [&assignments, key = field.key](const std::string& text) {
          assignments.push_back({key, text, "command line"});
        },
        fmt::format("{} [{}] ({})", field.help, text_of(field.get()), field.type),
        "Config: " + field.key.substr(0, field.key.find('.')));
  }
}

}  // namespace klab
