// SPDX-License-Identifier: Apache-2.0
// Registration of an operator with PyTorch's dispatcher, used by both C++ and Python: schema, CPU and CUDA kernels,
// shape functions for meta tensors (which torch.compile needs for tracing), and autograd.
//
// An operator is described by a struct:
//
//     struct Operator {
//       using Inputs = ...;                  // with a function each_argument(), see arguments.h
//       static constexpr const char* kName;  // klab::<kName>
//       static constexpr std::array<const char*, n> kOutputs;  // names of the results that are differentiable
//       static constexpr std::array<const char*, n> kKept;     // of further results, which the backward pass reads
//       static Tensors forward(const Inputs&, Implementation, bool keep);  // `keep`: computes kKept too
//       static Tensors shapes(const Inputs&, Implementation, bool keep);   // the same results, without data
//       static constexpr const char* kDerivatives;  // "differentiable once; ...", "not differentiable"
//
//       // Required if kKept is not empty: whether the kernels that run on these inputs compute those results.
//       static bool keeps(const Inputs&, Implementation);
//
//       // Required if differentiable: the gradients, each in the field of its input, computed by kernels; std::nullopt
//       // for inputs on which a composed form runs. An undefined gradient of a result means zeros.
//       static std::optional<Inputs> backward(const Inputs&, Implementation, at::TensorList kept,
//                                             at::TensorList d_outputs);
//     };
//
// register_operator<Operator>() registers klab::<kName> and klab::<kName>_backward. The latter returns a gradient for
// each defined floating-point tensor, in the order of the arguments. Autograd calls both through the dispatcher, so
// both appear in a graph that torch.compile traces. The backward operator has no derivative.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/common/arguments.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

using Tensors = std::vector<at::Tensor>;
using Stack = torch::jit::Stack;

/// A call of an operator: all arguments of its schema.
template <class Operator>
struct Call {
  typename Operator::Inputs inputs{};
  Implementation implementation = Implementation::automatic;
  std::optional<bool> keep{};  ///< absent: true if autograd records the call
};

/// The implementation of that name. Throws c10::ValueError for an unknown name.
Implementation implementation_named(const std::string& name);

/// `x`, or an empty tensor if it is undefined: results of an operator must be defined.
at::Tensor or_empty(const at::Tensor& x, const at::Tensor& like);

/// An uninitialised tensor of x's shape, symbolic sizes included.
at::Tensor shaped_like(const at::Tensor& x);

/// The gradients of `inputs` for the gradients `d_outputs` of function(inputs). Enables autograd for that call, also
/// when the caller runs below autograd. Gradients of undefined and of integer inputs are undefined.
Tensors differentiate(const std::function<Tensors(at::TensorList)>& function, at::TensorList inputs,
                      at::TensorList d_outputs);

/// Whether autograd records a call whose arguments are the last `count` values on the stack.
bool records_gradient(const Stack& stack, size_t count);

/// Throws NotImplementedError for arguments with a tangent (forward-mode differentiation), which would be lost.
void refuse_tangents(const c10::OperatorHandle& op, const Stack& stack);

/// Calls the operator below autograd. Where autograd would record it, differentiating the results throws
/// c10::NotImplementedError: klab::<name> is <derivatives>.
void call_without_derivative(const c10::OperatorHandle& op, Stack& stack, const char* name, const char* derivatives);

/// klab::<name>
c10::OperatorHandle find_operator(const std::string& name);

/// Pops the last `count` values, which are tensors or None, off the stack.
Tensors pop_tensors(Stack& stack, size_t count);

// --- Schemas and stacks -------------------------------------------------------------------------------------------

constexpr const char* schema_type(const bool&) { return "bool"; }
constexpr const char* schema_type(const int64_t&) { return "int"; }
constexpr const char* schema_type(const double&) { return "float"; }
constexpr const char* schema_type(const std::optional<double>&) { return "float?"; }
inline const char* schema_type(const std::string&) { return "str"; }

inline c10::IValue to_ivalue(const at::Tensor& x) { return x.defined() ? c10::IValue(x) : c10::IValue(); }
template <class T>
c10::IValue to_ivalue(const T& value) {
  return value;
}

inline void assign(at::Tensor& x, const c10::IValue& value) { x = value.isNone() ? at::Tensor() : value.toTensor(); }
inline void assign(bool& x, const c10::IValue& value) { x = value.toBool(); }
inline void assign(int64_t& x, const c10::IValue& value) { x = value.toInt(); }
inline void assign(double& x, const c10::IValue& value) { x = value.toDouble(); }
inline void assign(std::optional<double>& x, const c10::IValue& value) { x = value.toOptional<double>(); }
inline void assign(std::string& x, const c10::IValue& value) { x = value.toStringRef(); }

/// "Tensor q, Tensor? g, float? scale, str implementation="automatic""
template <class Inputs>
std::string schema_of_arguments() {
  std::string text;
  const auto add = [&](const std::string& type, const char* name, const char* default_value) {
    text += type + " " + name + (default_value == nullptr ? "" : std::string("=") + default_value) + ", ";
  };
  Inputs inputs{};
  each_argument(inputs, [&](const auto& argument, const auto& value) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(argument)>, TensorArgument>) {
      add(argument.required ? "Tensor" : "Tensor?", argument.name, nullptr);
    } else {
      add(schema_type(value), argument.name, argument.default_value);
    }
  });
  return text + "str implementation=\"automatic\"";
}

/// How many arguments schema_of_arguments() lists.
template <class Inputs>
size_t argument_count() {
  static const size_t count = [] {
    size_t counted = 1;  // the implementation
    Inputs inputs{};
    each_argument(inputs, [&](const auto&, const auto&) { ++counted; });
    return counted;
  }();
  return count;
}

template <class Operator>
void push_arguments(Stack& stack, const Call<Operator>& call) {
  each_argument(call.inputs, [&](const auto&, const auto& value) { stack.push_back(to_ivalue(value)); });
  stack.emplace_back(to_string(call.implementation));
}

template <class Operator>
Call<Operator> pop_arguments(Stack& stack) {
  const size_t count = argument_count<typename Operator::Inputs>();
  Call<Operator> call;
  size_t next = stack.size() - count;
  each_argument(call.inputs, [&](const auto&, auto& value) { assign(value, stack[next++]); });
  call.implementation = implementation_named(stack[next].toStringRef());
  torch::jit::drop(stack, count);
  return call;
}

// `keep` is the last argument of a forward operator that has results for the backward pass.
template <class Operator>
Call<Operator> pop_call(Stack& stack) {
  std::optional<bool> keep;
  if constexpr (!Operator::kKept.empty()) keep = torch::jit::pop(stack).toOptional<bool>();
  Call<Operator> call = pop_arguments<Operator>(stack);
  call.keep = keep;
  return call;
}

inline void push_tensors(Stack& stack, Tensors tensors) {
  for (at::Tensor& x : tensors) stack.emplace_back(std::move(x));
}

/// Calls klab::<kName> through the dispatcher.
template <class Operator>
Tensors call_operator(const Call<Operator>& call) {
  static const c10::OperatorHandle op = find_operator(Operator::kName);
  Stack stack;
  push_arguments(stack, call);
  if constexpr (!Operator::kKept.empty()) stack.emplace_back(call.keep);
  op.callBoxed(stack);
  return pop_tensors(stack, stack.size());
}

/// Selects from `gradients`, one per tensor argument, those of the defined floating-point tensors. Undefined gradients
/// become zeros.
template <class Inputs>
Tensors given_gradients(const Inputs& inputs, at::TensorList gradients) {
  Tensors given;
  size_t next = 0;
  each_tensor(inputs, [&](const TensorArgument& argument, const at::Tensor& x) {
    const at::Tensor& gradient = gradients[next++];
    if (!x.defined() || argument.role == Role::offsets) return;
    given.push_back(gradient.defined() ? gradient : at::zeros(x.sizes(), x.options()));
  });
  return given;
}

// --- Autograd -----------------------------------------------------------------------------------------------------

/// The autograd function of an operator. It saves the tensors, the results kept for the backward pass and a copy of the
/// options.
template <class Operator>
class FusedFunction : public torch::autograd::Function<FusedFunction<Operator>> {
 public:
  using Context = torch::autograd::AutogradContext;

  // The at::TensorList repeats the defined tensors of `call`: autograd records only tensors that are arguments.
  static Tensors forward(Context* context, Call<Operator> call, at::TensorList) {
    Tensors results;
    {
      const at::AutoDispatchBelowADInplaceOrView below;
      results = call_operator(call);
    }
    const Tensors kept(results.begin() + Operator::kOutputs.size(), results.end());
    context->mark_non_differentiable(kept);
    context->set_materialize_grads(false);
    const ArgumentTensors tensors = tensors_of(call.inputs);
    Tensors saved(tensors.begin(), tensors.end());
    saved.insert(saved.end(), kept.begin(), kept.end());
    context->save_for_backward(saved);
    replace_tensors(call.inputs, Tensors(tensors.size()));
    context->saved_data["call"] = c10::IValue::make_capsule(c10::make_intrusive<Saved>(std::move(call)));
    return results;
  }

  static Tensors backward(Context* context, const Tensors& d_results) {
    static const c10::OperatorHandle op = find_operator(std::string(Operator::kName) + "_backward");
    const Tensors saved = context->get_saved_variables();
    const at::TensorList tensors = at::TensorList(saved).slice(0, saved.size() - Operator::kKept.size());
    Call<Operator> call = static_cast<Saved&>(*context->saved_data["call"].toCapsule()).call;
    replace_tensors(call.inputs, tensors);
    Stack stack;
    for (size_t i = 0; i < Operator::kOutputs.size(); ++i) stack.push_back(to_ivalue(d_results[i]));
    for (size_t i = tensors.size(); i < saved.size(); ++i) stack.emplace_back(saved[i]);
    push_arguments(stack, call);
    op.callBoxed(stack);
    return for_arguments(call.inputs, stack.back().toTensorVector());
  }

 private:
  struct Saved : torch::CustomClassHolder {
    explicit Saved(Call<Operator> given) : call(std::move(given)) {}
    Call<Operator> call;
  };

  // One gradient per argument of forward(): undefined for `call`, then one for each defined tensor.
  static Tensors for_arguments(const typename Operator::Inputs& inputs, const Tensors& gradients) {
    Tensors all(1);
    size_t next = 0;
    each_tensor(inputs, [&](const TensorArgument& argument, const at::Tensor& x) {
      if (x.defined()) all.push_back(argument.role == Role::offsets ? at::Tensor() : gradients[next++]);
    });
    return all;
  }
};

// --- Boxed kernels, called by the dispatcher ----------------------------------------------------------------------

template <class Operator>
void boxed_forward(const c10::OperatorHandle&, Stack* stack) {
  const at::NoGradGuard no_grad;
  const Call<Operator> call = pop_call<Operator>(*stack);
  push_tensors(*stack, Operator::forward(call.inputs, call.implementation, call.keep.value_or(false)));
}

template <class Operator>
void boxed_shapes(const c10::OperatorHandle&, Stack* stack) {
  const Call<Operator> call = pop_call<Operator>(*stack);
  push_tensors(*stack, Operator::shapes(call.inputs, call.implementation, call.keep.value_or(false)));
}

template <class Operator>
void boxed_autograd(const c10::OperatorHandle& op, Stack* stack) {
  refuse_tangents(op, *stack);
  if (!records_gradient(*stack, op.schema().arguments().size())) {
    const at::AutoDispatchBelowADInplaceOrView below;
    op.callBoxed(stack);
    return;
  }
  Call<Operator> call = pop_call<Operator>(*stack);
  if constexpr (!Operator::kKept.empty()) {
    if (!call.keep) call.keep = Operator::keeps(call.inputs, call.implementation);
  }
  ArgumentTensors given;
  for (const at::Tensor& x : tensors_of(call.inputs)) {
    if (x.defined()) given.push_back(x);
  }
  push_tensors(*stack, FusedFunction<Operator>::apply(std::move(call), at::TensorList(given)));
}

/// The backward pass of a composed form: recomputes the forward pass under autograd and differentiates it.
template <class Operator>
Tensors composed_gradients(const Call<Operator>& call, at::TensorList d_outputs) {
  const auto function = [&](at::TensorList leaves) {
    Call<Operator> with_leaves = call;
    replace_tensors(with_leaves.inputs, leaves);
    return Operator::forward(with_leaves.inputs, call.implementation, /*keep=*/false);
  };
  return differentiate(function, tensors_of(call.inputs), d_outputs);
}

template <class Operator>
void boxed_backward(const c10::OperatorHandle&, Stack* stack) {
  const Call<Operator> call = pop_arguments<Operator>(*stack);
  const Tensors kept = pop_tensors(*stack, Operator::kKept.size());
  const Tensors d_outputs = pop_tensors(*stack, Operator::kOutputs.size());
  std::optional<typename Operator::Inputs> gradients;
  {
    const at::NoGradGuard no_grad;
    gradients = Operator::backward(call.inputs, call.implementation, kept, d_outputs);
  }
  if (gradients) {
    stack->emplace_back(given_gradients(call.inputs, tensors_of(*gradients)));
  } else {
    stack->emplace_back(given_gradients(call.inputs, composed_gradients(call, d_outputs)));
  }
}

template <class Operator>
void boxed_backward_shapes(const c10::OperatorHandle&, Stack* stack) {
  const Call<Operator> call = pop_arguments<Operator>(*stack);
  pop_tensors(*stack, Operator::kKept.size() + Operator::kOutputs.size());
  Tensors given;
  each_tensor(call.inputs, [&](const TensorArgument& argument, const at::Tensor& x) {
    if (x.defined() && argument.role != Role::offsets) given.push_back(shaped_like(x));
  });
  stack->emplace_back(std::move(given));
}

template <class Operator>
void boxed_without_derivative(const c10::OperatorHandle& op, Stack* stack) {
  call_without_derivative(op, *stack, Operator::kName, Operator::kDerivatives);
}

// --- Registration -------------------------------------------------------------------------------------------------

/// "(Tensor q, ..., str implementation="automatic", bool? keep=None) -> (Tensor o, Tensor final_state, Tensor kept)"
template <class Operator>
std::string forward_schema() {
  std::string results;
  for (const char* name : Operator::kOutputs) results += std::string(results.empty() ? "" : ", ") + "Tensor " + name;
  for (const char* name : Operator::kKept) results += std::string(", Tensor ") + name;
  const char* keep = Operator::kKept.empty() ? "" : ", bool? keep=None";
  return "(" + schema_of_arguments<typename Operator::Inputs>() + keep + ") -> (" + results + ")";
}

/// "(Tensor? d_o, Tensor? d_final_state, Tensor kept, Tensor q, ..., str implementation="automatic") -> Tensor[]"
template <class Operator>
std::string backward_schema() {
  std::string text = "(";
  for (const char* name : Operator::kOutputs) text += std::string("Tensor? d_") + name + ", ";
  for (const char* name : Operator::kKept) text += std::string("Tensor ") + name + ", ";
  return text + schema_of_arguments<typename Operator::Inputs>() + ") -> Tensor[]";
}

using BoxedKernel = void(const c10::OperatorHandle&, Stack*);

template <BoxedKernel* compute, BoxedKernel* shapes, BoxedKernel* autograd>
void register_kernels(torch::Library& library, const std::string& name, const std::string& schema) {
  library.def((name + schema).c_str(), {at::Tag::pt2_compliant_tag});
  const auto implement = [&](c10::DispatchKey key, torch::CppFunction&& kernel) {
    library.impl(name.c_str(), torch::dispatch(key, std::move(kernel)));
  };
  implement(c10::DispatchKey::CPU, torch::CppFunction::makeFromBoxedFunction<compute>());
  implement(c10::DispatchKey::CUDA, torch::CppFunction::makeFromBoxedFunction<compute>());
  implement(c10::DispatchKey::Meta, torch::CppFunction::makeFromBoxedFunction<shapes>());
  implement(c10::DispatchKey::Autograd, torch::CppFunction::makeFromBoxedFunction<autograd>());
}

template <class Operator>
void register_operator(torch::Library& library) {
  const std::string name = Operator::kName, schema = forward_schema<Operator>();
  if constexpr (requires { &Operator::backward; }) {
    register_kernels<boxed_forward<Operator>, boxed_shapes<Operator>, boxed_autograd<Operator>>(library, name, schema);
    register_kernels<boxed_backward<Operator>, boxed_backward_shapes<Operator>, boxed_without_derivative<Operator>>(
        library, name + "_backward", backward_schema<Operator>());
  } else {
    register_kernels<boxed_forward<Operator>, boxed_shapes<Operator>, boxed_without_derivative<Operator>>(library, name,
                                                                                                          schema);
  }
}

}  // namespace klab::kernels
