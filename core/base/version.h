// SPDX-License-Identifier: Apache-2.0
// Version and commit of the program, for results and --version.
#pragma once

#include <string>

namespace klab {

std::string version();

/// Short hash of the checked-out commit, followed by "+" if the working tree has changes; "unknown" outside a git
/// checkout. The first call runs git at run time: the launcher rebuilds before every run, so the tree matches the
/// build.
std::string commit();

}  // namespace klab
