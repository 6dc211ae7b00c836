// SPDX-License-Identifier: Apache-2.0
#include "core/model/activation_checkpoint.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/nn/module.h>

#include <memory>
#include <utility>
#include <vector>

#include "core/model/layers.h"

namespace klab {
namespace {

using torch::Tensor;
using torch::autograd::variable_list;

// Copies of x without their history, and forward of them with a graph that begins there.
std::pair<variable_list, variable_list> with_own_graph(const TensorsFunction& forward, const variable_list& x) {
  const torch::AutoGradMode enabled(true);
  variable_list begin;
  for (const Tensor& one : x) begin.push_back(one.detach().requires_grad_());
  return {begin, forward(begin)};
}

// The node of the outer graph: from the gradients of forward(x) to those of x and the parameters.
class ComputeAgain : public torch::autograd::Node {
 public:
  ComputeAgain(TensorsFunction forward, const variable_list& x, variable_list parameters)
      : forward_(std::move(forward)), parameters_(std::move(parameters)) {
    for (const Tensor& one : x) x_.emplace_back(one, /*is_output=*/false);
  }

  variable_list apply(variable_list&& d_out) override {
    variable_list kept;
    for (const auto& one : x_) kept.push_back(one.unpack());
    auto [inputs, outputs] = with_own_graph(forward_, kept);
    inputs.insert(inputs.end(), parameters_.begin(), parameters_.end());
    variable_list used, d_used;  // outputs that later layers did not use have no gradient
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (!d_out[i].defined() || !outputs[i].requires_grad()) continue;
      used.push_back(outputs[i]);
      d_used.push_back(d_out[i]);
    }
    return torch::autograd::grad(used, inputs, d_used, /*retain_graph=*/false, /*create_graph=*/false,
                                 /*allow_unused=*/true);
  }

  void release_variables() override {
    for (auto& one : x_) one.reset_data();
  }

 private:
  TensorsFunction forward_;
  std::vector<torch::autograd::SavedVariable> x_;
  variable_list parameters_;
};

}  // namespace

std::vector<Tensor> checkpointed(const torch::nn::Module& module, const TensorsFunction& forward,
                                 const std::vector<Tensor>& x) {
  variable_list parameters;
  torch::autograd::edge_list edges;
  for (const Tensor& one : x) edges.push_back(torch::autograd::impl::gradient_edge(one));
  for (const auto& [name, parameter] : own_parameters(module)) {
    if (!parameter.requires_grad()) continue;
    parameters.push_back(parameter);
    edges.push_back(torch::autograd::impl::gradient_edge(parameter));
  }
  const std::shared_ptr<torch::autograd::Node> node(new ComputeAgain(forward, x, std::move(parameters)),
                                                    torch::autograd::deleteNode);
  node->set_next_edges(std::move(edges));
  std::vector<Tensor> y;
  for (const Tensor& one : with_own_graph(forward, x).second) {
    y.push_back(one.detach());
    torch::autograd::set_history(y.back(), node);
  }
  return y;
}

}  // namespace klab
