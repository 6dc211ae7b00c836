// SPDX-License-Identifier: Apache-2.0
// The activation between the projections of a SwiGLU (Shazeer 2020).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// silu(gate) * up, with silu(z) = z sigmoid(z): gate and up [.., M] of one dtype give [.., M] in that dtype.
///
/// `reference` and `cpu` compute in float32 (float64 for float64) and round once. `cpu` reads gate and up once, in the
/// forward pass and in the backward pass, and is differentiable once. `composed` is silu and a product in the inputs'
/// dtype; it and `reference` have derivatives of any order. `automatic` is `cpu` where it can run, `composed` on CUDA,
/// else `reference`. Throws c10::ValueError that names the argument, c10::NotImplementedError for an implementation
/// that cannot run on these tensors.
KLAB_API at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up,
                           Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> swiglu_implementations();

}  // namespace klab::kernels
