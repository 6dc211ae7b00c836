// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {

void launch_forward_float16(const ForwardTask& task, Stream stream) {
  launch_forward<HalfOperand<Float16>>(task, stream);
}

}  // namespace klab::kernels::cuda
