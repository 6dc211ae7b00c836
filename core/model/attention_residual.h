// SPDX-License-Identifier: Apache-2.0
// Attention residuals: a layer reads a mixture of earlier outputs instead of their sum.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <vector>

#include "core/model/layers.h"

namespace klab {

/// What layers pass on. Without attention residuals only `x` is used: the sum of the embedding and all outputs so far.
struct ResidualStream {
  torch::Tensor x;                    ///< [B, T, D]; the sum since the current block of layers began
  std::vector<torch::Tensor> blocks;  ///< the sums of the earlier blocks, the embedding first
  torch::Tensor values;               ///< of value residuals: those of the first layer that has some, else undefined

  std::vector<torch::Tensor> sources() const;  ///< the blocks, then x if there is one
};

/// A softmax over sources of the residual stream, per token (arXiv 2603.15031):
///     y = sum over s of softmax(query . rms_norm(source_s)) source_s
/// with a learned query [D].
class AttentionResidualImpl : public torch::nn::Module {
 public:
  AttentionResidualImpl(int64_t width, double norm_eps);
  /// Sources [B, T, D], at least one, to [B, T, D]. Computed in float32 or wider and rounded once.
  torch::Tensor forward(const std::vector<torch::Tensor>& sources) const;
  /// FLOPs of one token with this many sources: scores and sum.
  double flops(int64_t sources) const { return 4.0 * static_cast<double>(query_.numel() * sources); }

 private:
  RmsNorm norm_;
  torch::Tensor query_;  // [D]
};
TORCH_MODULE(AttentionResidual);

}  // namespace klab
