// SPDX-License-Identifier: Apache-2.0
// Runs cells of the check matrix with CUDA kernels in the emulation.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/check/matrix.h"
#include "emulation.h"

namespace klab {

/// For its lifetime, CUDA kernels run in the emulation, on CPU tensors.
class EmulatedDevice {
 public:
  explicit EmulatedDevice(emulation::Schedule schedule = emulation::Schedule::ascending);
  ~EmulatedDevice();
  EmulatedDevice(const EmulatedDevice&) = delete;
  EmulatedDevice& operator=(const EmulatedDevice&) = delete;
};

/// Fixture with an emulated device.
class OnEmulatedDevice : public testing::Test {
 protected:
  /// Grids launched since the test began.
  int64_t launches() const { return emulation::grids_run() - before_; }

 private:
  EmulatedDevice device_;
  int64_t before_ = emulation::grids_run();
};

/// Checks every cell of the CUDA form of `op` in `dtype`, on the current device and schedule; `quick`: only the quick
/// workloads.
void expect_cells_to_hold(const OperatorCase& op, at::ScalarType dtype, bool quick);

/// Checks the CUDA form of an operator, forward and backward, on its workloads: the quick ones in every kernel dtype
/// with the schedules `ascending` and `descending`; the others in float32 and bfloat16 with `ascending`.
void expect_cells_to_hold(const std::string& operator_name);

/// Checks other workloads, in every kernel dtype.
void expect_cells_to_hold(const std::string& operator_name, const std::vector<Workload>& workloads);

/// Checks that a float32 cell fails if threads do not wait at barrier 0.
void expect_barriers_to_matter(const std::string& operator_name, const Workload& workload);

}  // namespace klab
