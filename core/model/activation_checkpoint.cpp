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
using Forward = std::function<Tensor(const Tensor&)>;

// x without its history, and forward of it with a graph that begins there.
std::pair<Tensor, Tensor> with_own_graph(const Forward& forward, const Tensor& x) {
  const torch::AutoGradMode enabled(true);
  const Tensor begin = x.detach().requires_grad_();
  return {begin, forward(begin)};
}

// The node of the outer graph: from the gradient of forward(x) to those of x and the parameters.
class ComputeAgain : public torch::autograd::Node {
 public:
  ComputeAgain(Forward forward, const Tensor& x, variable_list parameters)
      : forward_(std::move(forward)), x_(x, /*is_output=*/false), parameters_(std::move(parameters)) {}

  variable_list apply(variable_list&& d_out) override {
    const auto [x, y] = with_own_graph(forward_, x_.unpack());
    variable_list inputs{x};
    inputs.insert(inputs.end(), parameters_.begin(), parameters_.end());
    return torch::autograd::grad({y}, inputs, d_out, /*retain_graph=*/false, /*create_graph=*/false,
                                 /*allow_unused=*/true);
  }

  void release_variables() override { x_.reset_data(); }

 private:
  Forward forward_;
  torch::autograd::SavedVariable x_;
  variable_list parameters_;
};

}  // namespace

Tensor checkpointed(const torch::nn::Module& module, const Forward& forward, const Tensor& x) {
  variable_list parameters;
  torch::autograd::edge_list edges{torch::autograd::impl::gradient_edge(x)};
  for (const auto& [name, parameter] : own_parameters(module)) {
    if (!parameter.requires_grad()) continue;
    parameters.push_back(parameter);
    edges.push_back(torch::autograd::impl::gradient_edge(parameter));
  }
  const std::shared_ptr<torch::autograd::Node> node(new ComputeAgain(forward, x, std::move(parameters)),
                                                    torch::autograd::deleteNode);
  node->set_next_edges(std::move(edges));
  const Tensor y = with_own_graph(forward, x).second.detach();
  torch::autograd::set_history(y, node);
  return y;
}

}  // namespace klab
