// Version and commit of the program, for results and --version.
#pragma once

#include <string>

namespace klab {

std::string version();

/// Short hash of the checked-out commit, with "+" behind it when the tree has changes; "unknown" outside a git
/// checkout. The first call runs git: the launcher rebuilds before it runs, so the tree is what was built.
std::string commit();

/// The checkout that this program was built from: where experiments/ keeps its files. Throws Error when it is gone.
std::string source_folder();

}  // namespace klab
