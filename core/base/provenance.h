// SPDX-License-Identifier: Apache-2.0
// Provenance of results: the program, machine and command in the header of a results file.
#pragma once

#include <string>
#include <vector>

namespace klab {

/// The words as one line that bash parses into the same words: words of letters, digits and @%+=:,./_- unchanged,
/// others in single quotes, or in $'..' with escapes if they contain control characters.
std::string quoted_command(const std::vector<std::string>& words);

/// The comment lines of a results file: program version, commit, machine, threads, libraries, command. `command` is a
/// result of quoted_command().
std::vector<std::string> provenance(const std::string& command, int threads);

}  // namespace klab
