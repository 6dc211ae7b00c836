// The norms on hand-written kernels: what those of the CPU and of CUDA have in common. Between norms.cpp, norms_cpu.cpp
// and norms_cuda.cpp.
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
  bool mean = true;  ///< of the squares, else their sum
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

/// Kernels of one device. All take checked inputs, with a gate only where there is an activation, and leave autograd
/// alone.
struct FusedNorm {
  at::Tensor (*forward)(const NormInputs& inputs);
  /// The gradients in the places of the inputs, in their dtypes.
  NormInputs (*backward)(const NormInputs& inputs, const at::Tensor& d_y);
};

/// The CPU's have no L2 norm and need a weight.
extern const FusedNorm cpu_norm, cuda_norm;

/// The inputs as the kernels take them; owns what its problem points to.
struct PlainNorm {
  at::Tensor x, weight, gate;
  NormProblem problem;
  explicit PlainNorm(const NormInputs& inputs);
};

/// Rows of a contiguous [.., D], none of an undefined tensor.
Rows norm_rows(const at::Tensor& x);
MutableRows mutable_norm_rows(const at::Tensor& x);

}  // namespace klab::kernels
