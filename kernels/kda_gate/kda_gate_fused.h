// SPDX-License-Identifier: Apache-2.0
// The gate's arguments and its CUDA implementation, which kda_gate.cpp calls.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "kernels/common/arguments.h"

namespace klab::kernels {

/// The arguments of kda_gate().
struct KdaGateInputs {
  at::Tensor raw{}, A_log{}, dt_bias{};
  std::optional<double> lower_bound{};
};

template <InputsOf<KdaGateInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  visit(TensorArgument{"raw", Role::gate, /*required=*/true}, in.raw);
  visit(TensorArgument{"A_log", Role::parameter}, in.A_log);
  visit(TensorArgument{"dt_bias", Role::parameter}, in.dt_bias);
  visit(Option{"lower_bound"}, in.lower_bound);
}

/// Inputs must be checked and not float64. Below autograd.
at::Tensor kda_gate_cuda_forward(const KdaGateInputs& inputs);

/// The gradients, each in the field and the dtype of its input.
KdaGateInputs kda_gate_cuda_backward(const KdaGateInputs& inputs, const at::Tensor& d_g);

}  // namespace klab::kernels
