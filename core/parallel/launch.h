// SPDX-License-Identifier: Apache-2.0
// Starts the ranks of a job on this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

/// Runs this program with `words` in `count` processes, which find each other as under torchrun. Rank 0 has this
/// process's output and errors; lines of the others are printed after their rank, except those that rank 0 prints too.
/// `threads`: of each rank; 0: an equal share of the cores. Signals are passed on. When a rank fails the others get
/// some seconds to end. Returns the largest exit code.
int launch_ranks(int64_t count, const std::vector<std::string>& words, int threads);

}  // namespace klab
