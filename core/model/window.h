// SPDX-License-Identifier: Apache-2.0
// The latest tokens' keys or values, for attention with a sliding window: a tensor [N, window, ..] of the state, in
// which the row of position p is p modulo `window`. Rows of positions that have not been reached are not read.
#pragma once

#include <torch/types.h>

#include <vector>

#include "core/model/state.h"

namespace klab {

/// The keys or values of a span's queries: those of the window - 1 tokens before them, as far as there are as many,
/// then those of x [B, T, ..] itself, [rows, past + tokens, ..].
torch::Tensor with_window(const Span& span, const torch::Tensor& x, const torch::Tensor& rows);

/// After moved_window(): the rows of a span's only token and of those before it that it sees, in any order, without a
/// copy [rows, seen, ..].
torch::Tensor rows_after(const Span& span, const torch::Tensor& rows);

/// The window after the tokens of x [B, T, ..]. Without gradients `rows` itself, changed in place.
torch::Tensor moved_window(const std::vector<Span>& spans, const torch::Tensor& x, const torch::Tensor& rows);

}  // namespace klab
