// Causal depthwise convolution over a few tokens, as it stands before every linear mixer.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "kernels/implementation.h"

namespace klab::kernels {

struct ShortConvInputs {
  at::Tensor x;              ///< [B, T, D]
  at::Tensor weight;         ///< [D, W], the last tap multiplies the current token
  at::Tensor bias;           ///< [D] or undefined
  std::string activation;    ///< "" or "silu"
  at::Tensor initial_state;  ///< [N, W - 1, D], the tokens before x, oldest first; zeros when undefined
  at::Tensor cu_seqlens;     ///< [N + 1] integer offsets of packed sequences, then B = 1; undefined: N = B
};

struct ShortConvOutputs {
  at::Tensor y;            ///< [B, T, D], dtype of x
  at::Tensor final_state;  ///< [N, W - 1, D], dtype of x: the last W - 1 raw inputs
};

/// y_t = activation(bias + sum_w weight[:, w] x_{t - W + 1 + w}); differentiable in all tensors but cu_seqlens (`cpu`:
/// once). Dtypes: `cpu` sums in float32 and rounds once; the others sum in x's dtype; `reference` tap by tap.
/// Throws c10::ValueError that names the argument, and c10::NotImplementedError for an implementation that cannot run
/// on these tensors.
ShortConvOutputs short_conv(const ShortConvInputs& inputs, Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
std::vector<Implementation> short_conv_implementations();

}  // namespace klab::kernels
