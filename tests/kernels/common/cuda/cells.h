// Cells of the check matrix whose CUDA kernels run emulated on the host.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/check/matrix.h"
#include "emulation.h"

namespace klab {

/// While one lives, CUDA's kernels run emulated, and take tensors of the CPU.
class EmulatedDevice {
 public:
  explicit EmulatedDevice(emulation::Schedule schedule = emulation::Schedule::ascending);
  ~EmulatedDevice();
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;
};

/// Tests on such a device.
class OnEmulatedDevice : public testing::Test {
 protected:
  /// Grids launched since the test began.
  int64_t launches() const { return emulation::grids_run() - before_; }

 private:
  EmulatedDevice device_;
  int64_t before_ = emulation::grids_run();
};

/// Checks every cell that the CUDA form of `op` has in `dtype`, on the device as it is; `quick`: of the quick subset.
void expect_cells_to_hold(const OperatorCase& op, at::ScalarType dtype, bool quick);

/// Checks the CUDA form of an operator, forward and backward, on its own workloads: the quick ones in every dtype that
/// kernels take, under the schedules that run one end of a block first and the other; the others once in float32 and
/// once in bfloat16.
void expect_cells_to_hold(const std::string& operator_name);

/// The same for other workloads, in every dtype.
void expect_cells_to_hold(const std::string& operator_name, const std::vector<Workload>& workloads);

/// Checks that a cell in float32 fails when no thread waits at barrier 0.
void expect_barriers_to_matter(const std::string& operator_name, const Workload& workload);

}  // namespace klab
