// From tensors to what the kernels take: rows, plain float arrays, memory for results.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/common/cpu/sequence.h"
#include "kernels/common/rows.h"

namespace klab::kernels {

/// Why the CPU kernels cannot take these tensors (undefined ones do not count), or "".
std::string cpu_unsupported_reason(std::initializer_list<at::Tensor> tensors);

/// Whether autograd is to follow one of them.
bool needs_gradient(std::initializer_list<at::Tensor> tensors);

/// The tensor, copied if its last dimension has gaps. Other strides stay.
at::Tensor with_plain_rows(const at::Tensor& x);

/// As contiguous float32; undefined stays undefined.
at::Tensor plain_float(const at::Tensor& x);

/// The numbers of a contiguous float32 tensor, null when it is undefined or empty.
float* floats(const at::Tensor& x);

/// Rows of [B, T, heads, width], or of [B, T, heads] as rows of one number, or, by `flat_rows`, of [B, T, width].
Rows rows_of(const at::Tensor& x);
MutableRows mutable_rows_of(const at::Tensor& x);
Rows flat_rows_of(const at::Tensor& x);
MutableRows mutable_flat_rows_of(const at::Tensor& x);

/// Bytes on the device of `like`, for what a CUDA kernel keeps while it runs.
at::Tensor workspace(size_t bytes, const at::Tensor& like);

/// Memory for a result, on the CPU in large pages where it is large.
at::Tensor empty_result(at::IntArrayRef shape, const at::TensorOptions& options);
at::Tensor empty_result_like(const at::Tensor& x);

/// Batch rows [B, T, ..] as sequences, or the packed ones of `offsets`.
std::vector<cpu::Sequence> sequences_of(int64_t B, int64_t T, const std::vector<int64_t>& offsets);

/// Sums a contiguous float32 tensor over its first dimension, in its order: the same bits on any number of threads.
at::Tensor sum_rows(const at::Tensor& x);

}  // namespace klab::kernels
