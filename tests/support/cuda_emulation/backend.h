// SPDX-License-Identifier: Apache-2.0
// The backend of emulated CUDA kernels.
#pragma once

#include "kernels/common/cuda/backend.h"

namespace klab::emulation {

/// For kernels::cuda::use_backend(): the implementation 'cuda' then runs on CPU tensors.
const kernels::cuda::Backend& emulated_backend();

}  // namespace klab::emulation
