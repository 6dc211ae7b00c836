// SPDX-License-Identifier: Apache-2.0
#include "core/model/attention_residual.h"

#include <torch/nn/module.h>

#include "kernels/common/checks.h"

namespace klab {

using torch::Tensor;

std::vector<Tensor> ResidualStream::sources() const {
  std::vector<Tensor> all = blocks;
  if (x.defined()) all.push_back(x);
  return all;
}

AttentionResidualImpl::AttentionResidualImpl(int64_t width, double norm_eps)
    : norm_(register_module("norm", RmsNorm(width, norm_eps))),
      query_(register_parameter("query", new_parameter({width}))) {}

Tensor AttentionResidualImpl::forward(const std::vector<Tensor>& sources) const {
  const auto dtype = sources.front().scalar_type(), wide = kernels::accumulation_type(dtype);
  const Tensor all = torch::stack(sources, -2);                                        // [B, T, S, D]
  const Tensor scores = torch::matmul(norm_->forward(all).to(wide), query_.to(wide));  // [B, T, S]
  return torch::matmul(scores.softmax(-1).unsqueeze(-2), all.to(wide)).squeeze(-2).to(dtype);
}

}  // namespace klab
