// SPDX-License-Identifier: Apache-2.0
#include "core/base/config.h"
#include "fuzz/every_field.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// Flags of a command line: a line is a key, an equals sign and the value, in which "\n" is a line break.
void config_flags(std::string_view input) {
  std::vector<Assignment> assignments;
  while (!input.empty()) {
    const auto [line, rest] = halves(input, "\n");
    const auto [key, value] = halves(line, "=");
    std::string text(value);
    for (size_t at = text.find("\\n"); at != std::string::npos; at = text.find("\\n", at)) text.replace(at, 2, "\n");
    assignments.push_back({std::string(key), text, "command line"});
    input = rest;
  }
  expect_same_after_writing(assignments);
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(config_flags)
