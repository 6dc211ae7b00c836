// SPDX-License-Identifier: Apache-2.0
// Causal depthwise convolution over a few tokens, the first operation of every linear mixer.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

struct ShortConvInputs {
  at::Tensor x;              ///< [B, T, D]
  at::Tensor weight;         ///< [D, W], the last tap multiplies the current token
  at::Tensor bias;           ///< [D] or undefined
  std::string activation;    ///< "" or "silu"
  at::Tensor initial_state;  ///< [N, W - 1, D], the inputs before x, oldest first; zeros when undefined
  at::Tensor cu_seqlens;     ///< [N + 1] integer offsets of packed sequences (needs B = 1); undefined: N = B
};

struct ShortConvOutputs {
  at::Tensor y;            ///< [B, T, D], dtype of x
  at::Tensor final_state;  ///< [N, W - 1, D], dtype of x: the last W - 1 raw inputs
};

/// y_t = activation(bias + sum_w weight[:, w] x_{t - W + 1 + w}).
///
/// Differentiable in all tensors but cu_seqlens (`cpu` and `cuda`: once). Dtypes: `cpu` and `cuda` sum in float32 and
/// round once; the others sum in x's dtype, `reference` tap by tap. `automatic` is the kernel for the tensors' device
/// if it can run, else `composed`. `cpu` supports at most 16 taps, `cuda` 8. `cuda` does not copy a cu_seqlens in
/// device memory to the host, so its values are not checked; they must increase from 0 to T. Throws c10::ValueError
/// that names the argument, and c10::NotImplementedError for an implementation that cannot run on these tensors.
KLAB_API ShortConvOutputs short_conv(const ShortConvInputs& inputs,
                                     Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> short_conv_implementations();

}  // namespace klab::kernels
