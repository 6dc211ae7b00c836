// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_backward.cuh"

namespace klab::kernels::cuda {

void launch_reverse_bfloat16(const ReverseTask& task, Stream stream) {
  launch_reverse<HalfOperand<Bfloat16>>(task, stream);
}
void launch_gradient_bfloat16(const GradientTask& task, Stream stream) {
  launch_gradient<HalfOperand<Bfloat16>>(task, stream);
}

}  // namespace klab::kernels::cuda
