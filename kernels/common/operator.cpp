// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/operator.h"

#include <ATen/ATen.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <algorithm>

namespace klab::kernels {
namespace {

using at::Tensor;

// Autograd node of an operator without a derivative: throws when the backward pass reaches it.
class NoDerivative : public torch::autograd::Node {
 public:
  NoDerivative(std::string message, torch::autograd::edge_list&& edges)
      : Node(std::move(edges)), message_(std::move(message)) {}

  Tensors apply(Tensors&&) override { TORCH_CHECK_NOT_IMPLEMENTED(false, message_); }

 private:
  std::string message_;
};

// Makes `node` the grad_fn of the last `count` values on the stack.
void set_origin(const Stack& stack, size_t count, const std::shared_ptr<NoDerivative>& node) {
  for (size_t i = stack.size() - count; i < stack.size(); ++i) {
    const Tensors tensors = stack[i].isTensor() ? Tensors{stack[i].toTensor()} : stack[i].toTensorVector();
    for (const Tensor& x : tensors) {
      if (at::isFloatingType(x.scalar_type())) torch::autograd::set_history(x, node);
    }
  }
}

}  // namespace

Implementation implementation_named(const std::string& name) {
  using enum Implementation;
  for (const Implementation known : {automatic, reference, composed, chunk, cpu, cuda}) {
    if (to_string(known) == name) return known;
  }
  TORCH_CHECK_VALUE(false, "implementation '", name, "' is none of: automatic, reference, composed, chunk, cpu, cuda");
}

Tensor or_empty(const Tensor& x, const Tensor& like) { return x.defined() ? x : at::empty({0}, like.options()); }

Tensor shaped_like(const Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }

Tensors differentiate(const std::function<Tensors(at::TensorList)>& function, at::TensorList inputs,
                      at::TensorList d_outputs) {
  c10::impl::LocalDispatchKeySet keys = c10::impl::tls_local_dispatch_key_set();
  keys.excluded_ = keys.excluded_ - c10::autograd_dispatch_keyset;
  const c10::impl::ForceDispatchKeyGuard with_autograd(keys);
  const at::AutoGradMode enable(true);
  Tensors leaves, variables, outputs, weights;
  for (const Tensor& input : inputs) {
    const bool variable = input.defined() && input.is_floating_point();
    leaves.push_back(variable ? input.detach().requires_grad_() : input);
    if (variable) variables.push_back(leaves.back());
  }
  const Tensors results = function(leaves);
  for (size_t i = 0; i < d_outputs.size(); ++i) {
    if (!d_outputs[i].defined() || !results[i].requires_grad()) continue;
    outputs.push_back(results[i]);
    weights.push_back(d_outputs[i]);
  }
  Tensors gradients(variables.size());
  if (!outputs.empty()) {
    gradients = torch::autograd::grad(outputs, variables, weights, /*retain_graph=*/false, /*create_graph=*/false,
                                      /*allow_unused=*/true);
  }
  Tensors all;
  auto next = gradients.begin();
  for (const Tensor& leaf : leaves) {
    const bool variable = leaf.defined() && leaf.requires_grad();
    all.push_back(variable ? *next++ : Tensor());
    if (all.back().defined()) all.back() = all.back().contiguous();
  }
  return all;
}

bool records_gradient(const Stack& stack, size_t count) {
  if (!at::GradMode::is_enabled()) return false;
  return std::any_of(stack.end() - static_cast<std::ptrdiff_t>(count), stack.end(),
                     [](const c10::IValue& value) { return value.isTensor() && value.toTensor().requires_grad(); });
}

void refuse_tangents(const c10::OperatorHandle& op, const Stack& stack) {
  const auto count = static_cast<std::ptrdiff_t>(op.schema().arguments().size());
  const bool any = std::any_of(stack.end() - count, stack.end(), [](const c10::IValue& value) {
    return value.isTensor() && value.toTensor().defined() && value.toTensor()._fw_grad(/*level=*/0).defined();
  });
  TORCH_CHECK_NOT_IMPLEMENTED(!any, op.schema().name(), " has no forward-mode derivative (torch.func.jvp, ",
                              "torch.autograd.forward_ad): differentiate it backward");
}

void call_without_derivative(const c10::OperatorHandle& op, Stack& stack, const char* name, const char* derivatives) {
  refuse_tangents(op, stack);
  std::shared_ptr<NoDerivative> node;
  const size_t count = op.schema().arguments().size();
  if (records_gradient(stack, count)) {
    torch::autograd::edge_list edges;
    for (size_t i = stack.size() - count; i < stack.size(); ++i) {
      if (stack[i].isTensor() && stack[i].toTensor().requires_grad())
        edges.push_back(torch::autograd::impl::gradient_edge(stack[i].toTensor()));
    }
    node = std::shared_ptr<NoDerivative>(
        new NoDerivative(c10::str("klab::", name, " is ", derivatives), std::move(edges)), torch::autograd::deleteNode);
  }
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    op.callBoxed(stack);
  }
  if (node != nullptr) set_origin(stack, op.schema().returns().size(), node);
}

c10::OperatorHandle find_operator(const std::string& name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(("klab::" + name).c_str(), "");
}

Tensors pop_tensors(Stack& stack, size_t count) {
  Tensors tensors(count);
  for (size_t i = 0; i < count; ++i) assign(tensors[i], stack[stack.size() - count + i]);
  torch::jit::drop(stack, count);
  return tensors;
}

}  // namespace klab::kernels
