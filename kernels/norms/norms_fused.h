// SPDX-License-Identifier: Apache-2.0
// The interface between norms.cpp and the hand-written kernels (norms_cpu.cpp, norms_cuda.cpp).
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "kernels/common/arguments.h"
#include "kernels/norms/norm_problem.h"

namespace klab::kernels {

struct NormInputs {
  at::Tensor x{};                   ///< [.., D]
  at::Tensor weight{};              ///< [D], or undefined for ones
  at::Tensor gate{};                ///< [.., D], or undefined
  std::string activation = "none";  ///< of the gate: "sigmoid", "swish", or "none" for no gate
  double eps = 0;
  bool mean = true;  ///< divide by the root of the mean of the squares, else of their sum
};

template <InputsOf<NormInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  visit(TensorArgument{"x", Role::operand, /*required=*/true}, in.x);
  visit(TensorArgument{"weight", Role::parameter}, in.weight);
  visit(TensorArgument{"gate", Role::gate}, in.gate);
  visit(Option{"activation"}, in.activation);
  visit(Option{"eps"}, in.eps);
  visit(Option{"mean", "True"}, in.mean);
}

/// Kernels of one device. Inputs must be checked, with a gate only if there is an activation. Below autograd.
struct FusedNorm {
  at::Tensor (*forward)(const NormInputs& inputs);
  /// The gradients, each in the field and the dtype of its input.
  NormInputs (*backward)(const NormInputs& inputs, const at::Tensor& d_y);
};

/// The CPU kernels do not support the L2 norm and need a weight.
extern const FusedNorm cpu_norm, cuda_norm;

/// The inputs in the layout of the kernels; owns the memory that `problem` points to.
struct PlainNorm {
  at::Tensor x, weight, gate;
  NormProblem problem;
  explicit PlainNorm(const NormInputs& inputs);
};

/// The rows of a contiguous tensor [.., D]; null data for an undefined one.
Rows norm_rows(const at::Tensor& x);
MutableRows mutable_norm_rows(const at::Tensor& x);

}  // namespace klab::kernels
