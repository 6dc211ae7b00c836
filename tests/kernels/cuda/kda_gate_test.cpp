// The CUDA kernel of the gate, emulated on the host.
#include <gtest/gtest.h>

#include "cells.h"

namespace klab {
namespace {

TEST(CudaKdaGate, EveryCellHolds) { expect_cells_to_hold("kda_gate/"); }

}  // namespace
}  // namespace klab
