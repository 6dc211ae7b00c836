// SPDX-License-Identifier: Apache-2.0
// Parsing of the program's command line.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "experiments/command/command.h"

namespace klab {

/// What a command line asks for.
struct ParsedCommandLine {
  const Command* command = nullptr;  ///< null for help and for the version
  std::function<int()> action;       ///< runs it and returns the exit code
};

/// Parses the words after the program's name; sets `globals`, which must exist as long as the result, like `commands`.
/// Throws UsageError for an unknown command, option or value, and for a global option that the command does not accept.
ParsedCommandLine parse_command_line(const std::vector<std::string>& words, const std::vector<Command>& commands,
                                     Globals& globals);

}  // namespace klab
