// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {

void launch_forward_bfloat16(const ForwardTask& task, Stream stream) {
  launch_forward<HalfOperand<Bfloat16>>(task, stream);
}

}  // namespace klab::kernels::cuda
