// SPDX-License-Identifier: Apache-2.0
// Packed sequences as padded rows, and what else forms composed of ATen operators share.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/common/implementation.h"

namespace klab::kernels {

/// Packed x [1, T, ..] as [N, longest, ..], zero-padded at the ends, for the offsets [N + 1] of sequence_offsets().
/// Memory grows with N x longest.
at::Tensor unpack(const at::Tensor& x, const std::vector<int64_t>& offsets);

/// The inverse of unpack().
at::Tensor pack(const at::Tensor& x, const std::vector<int64_t>& offsets);

/// x [B, T, H, ..] in `dtype` with one sequence per row and every head repeated up to `heads`: [N, T, heads, D], D = 1
/// for x without a last dimension. Empty `offsets`: B sequences.
at::Tensor composed_rows(const at::Tensor& x, at::ScalarType dtype, const std::vector<int64_t>& offsets, int64_t heads);

/// choose_implementation() for an operator that has the forms `reference` and `chunk` only, on T = `tokens` tokens: the
/// chunk form would only pad a single one.
Implementation choose_composed(const char* op, Implementation requested, const at::Tensor& x, int64_t tokens);

}  // namespace klab::kernels
