// The CUDA kernels of the short convolution, emulated on the host.
#include "kernels/short_conv.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "cells.h"

namespace klab {
namespace {

TEST(CudaShortConv, EveryCellHolds) { expect_cells_to_hold("short_conv"); }

}  // namespace
}  // namespace klab
