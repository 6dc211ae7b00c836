// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {

void launch_forward_float32(const ForwardTask& task, Stream stream) { launch_forward<SplitFloat32>(task, stream); }

}  // namespace klab::kernels::cuda
