// SPDX-License-Identifier: Apache-2.0
// All non-public PyTorch functions that klab calls, in one file, so that only this file needs checking against a new
// PyTorch release. Checked with PyTorch 2.11.
#pragma once

#include <ATen/core/Tensor.h>

namespace klab::kernels {

struct AttentionWithNormaliser {
  at::Tensor o;    ///< [B, H, T, V]
  at::Tensor lse;  ///< [B, H, T], log of the sum of the exponentials of the logits
};

/// Softmax attention on the CPU that also returns the normaliser: aten::_scaled_dot_product_flash_attention_for_cpu,
/// which at::scaled_dot_product_attention calls too. q [B, H, T, K], k and v [B, H, S, K].
AttentionWithNormaliser flash_attention_on_cpu(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                               bool causal, double scale);

struct FlashGradients {
  at::Tensor q, k, v;  ///< as the inputs
};

/// The gradients of its q, k and v [B, H, .., ..] from that of o; `o` and `lse` may be of more keys than these.
FlashGradients flash_attention_backward_on_cpu(const at::Tensor& d_o, const at::Tensor& q, const at::Tensor& k,
                                               const at::Tensor& v, const AttentionWithNormaliser& whole, bool causal,
                                               double scale);

/// x weight^T by oneDNN, on the CPU in float32: mkldnn::_linear_pointwise without a pointwise function, the operator
/// that torch.compile calls for linear layers. x [rows, K], weight [N, K]; either may be transposed in memory, but not
/// strided otherwise: for other strides oneDNN has only reference code.
at::Tensor onednn_linear(const at::Tensor& x, const at::Tensor& weight);

}  // namespace klab::kernels
