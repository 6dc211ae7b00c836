// SPDX-License-Identifier: Apache-2.0
// Checks and views of weights: floating-point, or int8 with one scale per row.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "kernels/linear/cpu/products.h"

namespace klab::kernels {

/// Checks that `weight` is [N, K] (-1: any size), floating or int8, on the device of `like`, and that `scale` is
/// float32 [N] there if it is int8 and undefined otherwise. Throws c10::ValueError that names `name` or `scale_name`.
void check_weight(const char* op, const std::string& name, const at::Tensor& weight, const std::string& scale_name,
                  const at::Tensor& scale, int64_t N, int64_t K, const at::Tensor& like);

/// Whether the CPU kernels can read the weight in place: contiguous rows, and not float64.
bool has_plain_rows(const at::Tensor& weight);

/// A view of a weight with plain rows and a contiguous scale, neither of which is read here.
cpu::WeightMatrix weight_matrix_of(const at::Tensor& weight, const at::Tensor& scale);

}  // namespace klab::kernels
