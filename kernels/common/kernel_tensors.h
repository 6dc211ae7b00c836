// SPDX-License-Identifier: Apache-2.0
// Conversion of tensors to the arguments of kernels: rows, float arrays, memory for results.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "kernels/common/cpu/sequence.h"
#include "kernels/common/rows.h"

namespace klab::kernels {

/// Why the CPU kernels cannot run on these tensors (undefined ones do not count), or "".
std::string cpu_unsupported_reason(at::TensorList tensors);

/// Whether autograd records a call with these tensors.
bool records_gradient(at::TensorList tensors);

/// The tensor, copied where its last dimension is not contiguous. Other strides are preserved.
at::Tensor with_plain_rows(const at::Tensor& x);

/// The tensor as contiguous float32; undefined stays undefined.
at::Tensor plain_float(const at::Tensor& x);

/// The data pointer of a contiguous float32 tensor, null when it is undefined or empty.
float* floats(const at::Tensor& x);

/// Views of [B, T, heads, width], or of [B, T, heads] as rows of one element. The flat_rows functions view
/// [B, T, width].
Rows rows_of(const at::Tensor& x);
MutableRows mutable_rows_of(const at::Tensor& x);
Rows flat_rows_of(const at::Tensor& x);
MutableRows mutable_flat_rows_of(const at::Tensor& x);

/// Uninitialised memory on the device of `like`, for a kernel's intermediate results.
at::Tensor workspace(size_t bytes, const at::Tensor& like);
at::Tensor float_workspace(int64_t floats, const at::Tensor& like);

/// Uninitialised memory for a result. On the CPU, large results ask for huge pages.
at::Tensor empty_result(at::IntArrayRef shape, const at::TensorOptions& options);
at::Tensor empty_result_like(const at::Tensor& x);

/// The B batch rows of T tokens as sequences, or, if `offsets` is not empty, the packed sequences that it delimits.
std::vector<cpu::Sequence> sequences_of(int64_t B, int64_t T, const std::vector<int64_t>& offsets);

/// Sums a contiguous float32 tensor over its first dimension, in order: bitwise the same on any number of threads.
at::Tensor sum_rows(const at::Tensor& x);

}  // namespace klab::kernels
