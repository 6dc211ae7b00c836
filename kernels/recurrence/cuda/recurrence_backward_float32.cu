// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_backward.cuh"

namespace klab::kernels::cuda {

void launch_reverse_float32(const ReverseTask& task, Stream stream) { launch_reverse<SplitFloat32>(task, stream); }
void launch_gradient_float32(const GradientTask& task, Stream stream) { launch_gradient<SplitFloat32>(task, stream); }

}  // namespace klab::kernels::cuda
