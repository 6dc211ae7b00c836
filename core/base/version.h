// Version and commit of the program, for results and --version.
#pragma once

#include <string>

namespace klab {

std::string version();

/// Short hash of the checked-out commit, with "+" behind it when the tree has changes; "unknown" outside a git
/// checkout. The first call runs git: the launcher rebuilds before it runs, so the tree is what was built.
std::string commit();

}  // namespace klab
