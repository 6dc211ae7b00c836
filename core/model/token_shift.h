// SPDX-License-Identifier: Apache-2.0
// The preceding token.
#pragma once

#include <torch/types.h>

#include <string>

#include "core/model/state.h"

namespace klab {

/// The predecessor of every token of x [B, T, ..], zeros for the first token of a sequence. With a state its tensor
/// `name` [N, 1, D], D the numbers of a token, has the last token of each sequence. Differentiable.
torch::Tensor preceding_token(const torch::Tensor& x, const Sequences& sequences, State* state,
                              const std::string& name);

/// The state's tensor of empty sequences.
torch::Tensor no_preceding_token(int64_t sequences, int64_t width, torch::ScalarType dtype,
                                 const torch::Device& device);

}  // namespace klab
