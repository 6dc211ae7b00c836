// What the tests of the emulated CUDA kernels share.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "backend.h"
#include "core/check/cases.h"
#include "emulation.h"

namespace klab {

/// The implementation 'cuda' runs on the host, in ascending schedule.
class OnEmulatedCuda : public testing::Test {
 protected:
  OnEmulatedCuda();
  ~OnEmulatedCuda() override;

  /// Grids launched since the test began.
  static int64_t emulated_launches();

  /// Every cell of the check matrix that the CUDA form of `op` has in `dtype`; `quick`: of the quick subset.
  static void expect_cells(const OperatorCase& op, at::ScalarType dtype, bool quick);
};

std::string name_of_case(const testing::TestParamInfo<const OperatorCase*>& info);

}  // namespace klab
