// SPDX-License-Identifier: Apache-2.0
#include "fuzz/every_field.h"

#include <yaml-cpp/yaml.h>

#include "core/base/json.h"
#include "core/base/yaml.h"
#include "fuzz/target.h"

namespace klab::fuzz {

void expect_same_after_writing(const std::vector<Assignment>& assignments) {
  EveryField config;
  assign(config, assignments);
  check_values(config);
  EveryField again;
  assign(again, assignments_of(parse_yaml(to_yaml(config), "written.yaml"), "written.yaml"));
  expect(values_of(again) == values_of(config), "a config is read from its own YAML as another one");
  expect(config_hash(again) == config_hash(config), "equal configs have different hashes");
  EveryField of_texts;
  for (const auto& [key, value] : values_of(config)) {
    // The text of a text is itself; lists and numbers are written as on a command line.
    if (!(value.is_array() && value.empty())) assign(of_texts, {{key, text_of(value), "command line"}});
  }
  expect(values_of(of_texts) == values_of(config), "a config is read from its texts as another one");
  parse_json(to_json(config), "written.json");
}

}  // namespace klab::fuzz
