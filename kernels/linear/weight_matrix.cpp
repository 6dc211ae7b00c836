// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/weight_matrix.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"

namespace klab::kernels {
namespace {

using at::Tensor;

cpu::WeightType type_of(const Tensor& weight) {
  switch (weight.scalar_type()) {
    case at::kFloat: return cpu::WeightType::float32;
    case at::kBFloat16: return cpu::WeightType::bfloat16;
    case at::kHalf: return cpu::WeightType::float16;
    default: return cpu::WeightType::int8;
  }
}

void check_integers(const char* op, const std::string& name, const Tensor& weight, const std::string& scale_name,
                    const Tensor& scale, int64_t N, int64_t K, const Tensor& like) {
  TORCH_CHECK_VALUE(weight.device() == like.device(), op, ": ", name, " is on ", weight.device(),
                    ", but the first input is on ", like.device());
  TORCH_CHECK_VALUE(weight.dim() == 2 && (N < 0 || weight.size(0) == N) && (K < 0 || weight.size(1) == K), op, ": ",
                    name, " has shape ", weight.sizes(), ", but must have [", N, ", ", K, "] (-1 stands for any size)");
  TORCH_CHECK_VALUE(scale.defined(), op, ": ", scale_name, " is missing, but ", name, " is int8");
  TORCH_CHECK_VALUE(scale.scalar_type() == at::kFloat, op, ": ", scale_name, " has dtype ", scale.scalar_type(),
                    ", but must be float32");
  check_tensor(op, scale_name.c_str(), scale, {weight.size(0)}, like);
}

}  // namespace

void check_weight(const char* op, const std::string& name, const Tensor& weight, const std::string& scale_name,
                  const Tensor& scale, int64_t N, int64_t K, const Tensor& like) {
  if (weight.defined() && weight.scalar_type() == at::kChar) {
    check_integers(op, name, weight, scale_name, scale, N, K, like);
    return;
  }
  check_tensor(op, name.c_str(), weight, {N, K}, like);
  TORCH_CHECK_VALUE(!scale.defined(), op, ": ", scale_name, " is given, but ", name, " has dtype ",
                    weight.scalar_type(), ": only int8 weights have one");
}

bool has_plain_rows(const Tensor& weight) {
  return weight.scalar_type() != at::kDouble && (weight.size(1) == 1 || weight.stride(1) == 1);
}

cpu::WeightMatrix weight_matrix_of(const Tensor& weight, const Tensor& scale) {
  cpu::WeightMatrix matrix;
  matrix.data = weight.const_data_ptr();
  matrix.scale = scale.defined() ? scale.const_data_ptr<float>() : nullptr;
  matrix.N = weight.size(0);
  matrix.K = weight.size(1);
  matrix.step = weight.stride(0);
  matrix.type = type_of(weight);
  return matrix;
}

}  // namespace klab::kernels
