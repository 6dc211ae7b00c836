// Norms over the last dimension on CUDA: RMSNorm, with a gate or without, and the L2 norm. Between norms_cuda.cpp and
// the kernels: plain pointers to device memory, no ATen. Nothing here synchronises or allocates.
#pragma once

#include <cstddef>

#include "kernels/norms/norm_problem.h"

namespace klab::kernels::cuda {

/// x, gate and what is written in their shape have one dtype. Any width.
void norm_forward(const NormProblem& problem, const MutableRows& y, void* stream);

/// `workspace` as large as asked for below. The same bits in every run on one device.
void norm_backward(const NormProblem& problem, const Rows& d_y, const NormGradients& gradients, void* workspace,
                   void* stream);
size_t norm_backward_workspace(const NormProblem& problem);

}  // namespace klab::kernels::cuda
