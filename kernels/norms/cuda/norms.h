// SPDX-License-Identifier: Apache-2.0
// CUDA kernels for norms over the last dimension: RMSNorm, with a gate or without, and the L2 norm. They take plain
// pointers to device memory, without ATen, and neither synchronise nor allocate.
#pragma once

#include <cstddef>

#include "kernels/norms/norm_problem.h"

namespace klab::kernels::cuda {

/// x, gate, y and the gradients of x and gate have one dtype. Any width D.
void norm_forward(const NormProblem& problem, const MutableRows& y, void* stream);

/// `workspace` has norm_backward_workspace() bytes. Deterministic: bitwise the same in every run on one device.
void norm_backward(const NormProblem& problem, const Rows& d_y, const NormGradients& gradients, void* workspace,
                   void* stream);
size_t norm_backward_workspace(const NormProblem& problem);

}  // namespace klab::kernels::cuda
