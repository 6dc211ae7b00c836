// SPDX-License-Identifier: Apache-2.0
// The sweep files of the program's own commands, compiled in so that it runs without its source tree.
#pragma once

#include <string>
#include <string_view>

namespace klab {

/// The text of a file by its path relative to experiments/: "configs/demo.yaml", "figures/fig4/small.yaml". The source
/// of this function is generated (experiments/CMakeLists.txt). Throws Error for an unknown name.
std::string_view builtin_sweep(const std::string& name);

}  // namespace klab
