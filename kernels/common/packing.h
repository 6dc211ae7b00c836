// SPDX-License-Identifier: Apache-2.0
// Packed sequences as padded rows, for forms composed of ATen operators.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace klab::kernels {

/// Packed x [1, T, ..] as [N, longest, ..], zero-padded at the ends, for the offsets [N + 1] of sequence_offsets().
/// Memory grows with N x longest.
at::Tensor unpack(const at::Tensor& x, const std::vector<int64_t>& offsets);

/// The inverse of unpack().
at::Tensor pack(const at::Tensor& x, const std::vector<int64_t>& offsets);

}  // namespace klab::kernels
