// The CUDA kernels on the host, as the rest of klab calls them.
#pragma once

#include "kernels/common/cuda/backend.h"

namespace klab::emulation {

/// For kernels::cuda::use_backend(): the implementation 'cuda' then takes tensors of the CPU.
const kernels::cuda::Backend& emulated_backend();

}  // namespace klab::emulation
