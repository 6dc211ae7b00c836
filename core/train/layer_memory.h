// SPDX-License-Identifier: Apache-2.0
// Memory that a layer needs in training, measured on a few tokens.
#pragma once

#include <torch/types.h>

#include <string>

#include "core/model/model_config.h"

namespace klab {

/// What determines the memory of a layer.
struct LayerKind {
  std::string item;  ///< of the config's pattern
  bool experts;      ///< or a dense feed-forward
  int64_t blocks;    ///< of attention residuals, which the mixer reads
  auto operator<=>(const LayerKind&) const = default;
};

/// The kind of a layer of the config; `item` is the layer's item of the pattern.
LayerKind kind_of(const ModelConfig& config, const std::string& item, int64_t layer);

/// Bytes of tensors, without the layer's parameters.
struct LayerMemory {
  double kept = 0;      ///< after the forward pass, for the backward pass; with the output, without the input
  double forward = 0;   ///< at the peak of the forward pass
  double backward = 0;  ///< at the peak of the backward pass, in addition to `kept` and the parameters' gradients
};

/// The memory for `sequences` sequences of `length` tokens. Runs such a layer forward and backward on one and on two
/// sequences of up to 512 tokens, or of 256 tokens and on one of 512, and extrapolates: linear in the number of
/// sequences, quadratic in their length. Of a mixture of more than 16 experts, 16 are run.
/// `record_logits`: as with QK-Clip.
LayerMemory measure_layer(const ModelConfig& config, const LayerKind& kind, int64_t sequences, int64_t length,
                          torch::ScalarType dtype, bool record_logits);

}  // namespace klab
