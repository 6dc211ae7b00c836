// SPDX-License-Identifier: Apache-2.0
#include "core/base/config.h"
#include "fuzz/every_field.h"
#include "fuzz/target.h"

namespace klab::fuzz {
namespace {

// The text with "\n" as a line break.
std::string with_line_breaks(std::string_view text) {
  std::string out;
  while (true) {
    const size_t at = text.find("\\n");
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    out += '\n';
    text.remove_prefix(at + 2);
  }
}

}  // namespace

// Flags of a command line: a line is a key, an equals sign and the value, in which "\n" is a line break.
void config_flags(std::string_view input) {
  std::vector<Assignment> assignments;
  while (!input.empty()) {
    const auto [line, rest] = halves(input, "\n");
    const auto [key, value] = halves(line, "=");
    assignments.push_back({std::string(key), with_line_breaks(value), "command line"});
    input = rest;
  }
  expect_same_after_writing(assignments);
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(config_flags)
