// SPDX-License-Identifier: Apache-2.0
// Argument checks that the operators share. Every message begins with the operator's name.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace klab::kernels {

/// Checks defined-ness, device and floating dtype of `tensor` and that it has exactly `shape`; -1 stands for any size.
void check_tensor(const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef shape,
                  const at::Tensor& like);

/// Checks the rank, length and dtype of `cu_seqlens` and that the batch is 1. Does not read its values, which may be in
/// device memory.
void check_sequence_offsets(const char* op, const at::Tensor& cu_seqlens, int64_t batch);

/// `cu_seqlens` [N + 1], the offsets of packed sequences, as host integers. Throws c10::ValueError unless they increase
/// strictly from 0 to T and the batch is 1. Undefined `cu_seqlens` gives an empty vector: every batch row is one
/// sequence.
std::vector<int64_t> sequence_offsets(const char* op, const at::Tensor& cu_seqlens, int64_t batch, int64_t time);

/// The dtype of states and accumulators: float64 for float64 inputs, else float32.
at::ScalarType accumulation_type(at::ScalarType input);

}  // namespace klab::kernels
