// Cells of the check matrix whose CUDA kernels run emulated on the host.
#pragma once

#include <string>

namespace klab {

/// Checks the CUDA form of every operator whose name begins with `prefix` on all workloads, forward and backward, in
/// the dtypes that kernels take, under the schedules that run one end of a block first and the other.
void expect_cells_to_hold(const std::string& prefix);

/// How many of the same cells fail when no thread waits at barrier 0.
int count_failures_without_barrier(const std::string& prefix);

}  // namespace klab
