// The CUDA kernels of the norms, emulated on the host.
#include "kernels/norms.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "cells.h"

namespace klab {
namespace {

TEST(CudaNorms, EveryCellHolds) {
  for (const char* name : {"l2norm", "gated_rms_norm/"}) expect_cells_to_hold(name);
}

}  // namespace
}  // namespace klab
