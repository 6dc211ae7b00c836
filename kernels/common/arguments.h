// SPDX-License-Identifier: Apache-2.0
// The arguments of an operator, listed once.
//
// Every struct of inputs has one function `each_argument(inputs, visit)`. It calls `visit` for all arguments in the
// order of the operator's schema: visit(TensorArgument, at::Tensor&) for a tensor, visit(Option, value&) for anything
// else. Argument checks, autograd and the registration with the dispatcher (operator.h) are generated from it.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/SmallVector.h>

#include <array>
#include <concepts>
#include <type_traits>

#include "kernels/common/checks.h"
#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {

/// How the kernels use a tensor.
enum class Role : uint8_t {
  operand,    ///< per token and head, a factor of matrix products; all operands of a call have one dtype
  gate,       ///< per token and head; may be float32 while the operands are narrower
  state,      ///< one matrix per sequence and head
  parameter,  ///< a parameter of the layer, shared by all tokens
  offsets,    ///< integers, without a gradient
};

/// Sizes that several tensors of an operator share.
/// TW: T times the writes per token.
enum class Size : uint8_t { B, T, TW, H, HV, K, V, N, D, W, past, count };

/// The shape that a tensor must have. Rank 0 means that check_arguments() does not check the shape.
struct Shape {
  std::array<Size, 4> sizes{};
  int64_t rank = 0;
  bool last_is_optional = false;  ///< the last dimension may be missing

  constexpr Shape() = default;
  template <std::same_as<Size>... Sizes>
  constexpr explicit Shape(Sizes... given) : sizes{given...}, rank(sizeof...(given)) {}
  constexpr Shape or_without_last() const {
    Shape result = *this;
    result.last_is_optional = true;
    return result;
  }
};

struct TensorArgument {
  const char* name;
  Role role;
  bool required = false;
  Shape shape{};

  constexpr bool is_rows() const { return role == Role::operand || role == Role::gate; }
};

/// An argument that is not a tensor. `default_value` is written as in the operator's schema; null: no default.
struct Option {
  const char* name;
  const char* default_value = nullptr;
};

/// `Self` is `Inputs` or `const Inputs`. Constrains the overloads of each_argument().
template <class Self, class Inputs>
concept InputsOf = std::same_as<std::remove_const_t<Self>, Inputs>;

/// Calls visit(TensorArgument, tensor) for the tensor arguments only.
template <class Inputs, class Visit>
void each_tensor(Inputs& inputs, Visit&& visit) {
  each_argument(inputs, [&](const auto& argument, auto& value) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(argument)>, TensorArgument>) visit(argument, value);
  });
}

using ArgumentTensors = c10::SmallVector<at::Tensor, 12>;

/// All tensors in order, undefined ones included.
template <class Inputs>
ArgumentTensors tensors_of(const Inputs& inputs) {
  ArgumentTensors all;
  each_tensor(inputs, [&](const TensorArgument&, const at::Tensor& x) { all.push_back(x); });
  return all;
}

/// Replaces the tensors of `inputs` by `tensors`, which are in the order of tensors_of().
template <class Inputs>
void replace_tensors(Inputs& inputs, at::TensorList tensors) {
  size_t next = 0;
  each_tensor(inputs, [&](const TensorArgument&, at::Tensor& x) { x = tensors[next++]; });
}

/// Whether autograd records a call with these inputs.
template <class Inputs>
bool records_gradient(const Inputs& inputs) {
  return at::GradMode::is_enabled() && records_gradient(at::TensorList(tensors_of(inputs)));
}

/// The dimension sizes of a call, -1 while unknown.
class Sizes {
 public:
  Sizes() { sizes_.fill(-1); }
  int64_t operator[](Size size) const { return sizes_[static_cast<size_t>(size)]; }
  void set(Size size, int64_t value) { sizes_[static_cast<size_t>(size)] = value; }

  /// Checks dtype, device (that of `first`) and shape of a tensor. Sizes that are not known yet become those of `x`.
  /// Throws c10::ValueError; its message begins with `op`.
  void check(const char* op, const TensorArgument& argument, const at::Tensor& x, const at::Tensor& first);

 private:
  std::array<int64_t, static_cast<size_t>(Size::count)> sizes_{};
};

/// Checks, in order, all tensors for which each_argument() gives a shape. The first tensor with a dimension sets its
/// size, if it is not among the known `sizes`.
template <class Inputs>
Sizes check_arguments(const char* op, const Inputs& inputs, Sizes sizes = {}) {
  const at::Tensor* first = nullptr;
  each_tensor(inputs, [&](const TensorArgument& argument, const at::Tensor& x) {
    if (first == nullptr) first = &x;
    if (argument.shape.rank > 0 && (argument.required || x.defined())) sizes.check(op, argument, x, *first);
  });
  return sizes;
}

}  // namespace klab::kernels
