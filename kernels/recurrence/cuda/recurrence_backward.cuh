// SPDX-License-Identifier: Apache-2.0
// The kernels of the backward pass by operand dtype; each is instantiated in its own file.
#pragma once

#include "kernels/recurrence/cuda/recurrence_gradient.cuh"
#include "kernels/recurrence/cuda/recurrence_reverse.cuh"

namespace klab::kernels::cuda {

void launch_reverse_bfloat16(const ReverseTask& task, Stream stream);
void launch_reverse_float16(const ReverseTask& task, Stream stream);
void launch_reverse_float32(const ReverseTask& task, Stream stream);
void launch_gradient_bfloat16(const GradientTask& task, Stream stream);
void launch_gradient_float16(const GradientTask& task, Stream stream);
void launch_gradient_float32(const GradientTask& task, Stream stream);

}  // namespace klab::kernels::cuda
