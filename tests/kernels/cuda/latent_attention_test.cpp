// The CUDA kernels of latent attention, emulated on the host.
#include <gtest/gtest.h>

#include "cells.h"

namespace klab {
namespace {

TEST(CudaLatentAttention, EveryCellHolds) { expect_cells_to_hold("latent_attention"); }

}  // namespace
}  // namespace klab
