// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/aten_private.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

namespace klab::kernels {

using at::Tensor;

AttentionWithNormaliser flash_attention_on_cpu(const Tensor& q, const Tensor& k, const Tensor& v, bool causal,
                                               double scale) {
  const auto [o, lse] = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, /*dropout_p=*/0.0, causal,
                                                                        /*attn_mask=*/{}, scale);
  return {o, lse};
}

FlashGradients flash_attention_backward_on_cpu(const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v,
                                               const AttentionWithNormaliser& whole, bool causal, double scale) {
  const auto [d_q, d_k, d_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
      d_o, q, k, v, whole.o, whole.lse, /*dropout_p=*/0.0, causal, /*attn_mask=*/{}, scale);
  return {d_q, d_k, d_v};
}

Tensor onednn_linear(const Tensor& x, const Tensor& weight) {
  using Signature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, c10::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return op.call(x, weight, /*bias=*/std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

}  // namespace klab::kernels
