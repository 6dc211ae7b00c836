// Where numbers come from: what the header of a results file says of the program, the machine and the command.
#pragma once

#include <string>
#include <vector>

namespace klab {

/// The words as one line that a bash reads as the same words: a word of letters, digits and @%+=:,./_- stays as it is,
/// others stand in single quotes, or in $'..' with escapes when they hold control characters.
std::string quoted_command(const std::vector<std::string>& words);

/// The comment lines of a results file: program version, commit, machine, threads, command. `command` as
/// `quoted_command` gives it.
std::vector<std::string> provenance(const std::string& command, int threads);

}  // namespace klab
