// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/collectives.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>

namespace klab {
namespace {

using at::Tensor;
using torch::autograd::variable_list;

class ExchangeBack : public torch::autograd::Node {
 public:
  ExchangeBack(std::shared_ptr<RankGroup> ranks, std::vector<int64_t> sent, std::vector<int64_t> received)
      : ranks_(std::move(ranks)), sent_(std::move(sent)), received_(std::move(received)) {}

  variable_list apply(variable_list&& gradients) override {
    return {ranks_->exchange(gradients[0].contiguous(), received_, sent_)};
  }

 private:
  std::shared_ptr<RankGroup> ranks_;
  std::vector<int64_t> sent_, received_;
};

}  // namespace

Tensor exchange(const std::shared_ptr<RankGroup>& ranks, const Tensor& x, const std::vector<int64_t>& sent,
                const std::vector<int64_t>& received) {
  if (ranks->alone()) return x;
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return ranks->exchange(x, sent, received);
  const std::shared_ptr<torch::autograd::Node> node(new ExchangeBack(ranks, sent, received),
                                                    torch::autograd::deleteNode);
  node->set_next_edges({torch::autograd::impl::gradient_edge(x)});
  const Tensor y = ranks->exchange(x.detach(), sent, received);
  torch::autograd::set_history(y, node);
  return y;
}

Tensor gather(const std::shared_ptr<RankGroup>& ranks, const Tensor& x) {
  const std::vector<int64_t> one_each(static_cast<size_t>(ranks->size()), 1);
  std::vector<int64_t> copies(static_cast<size_t>(x.dim()) + 1, 1);
  copies[0] = ranks->size();
  return exchange(ranks, x.unsqueeze(0).repeat(copies), one_each, one_each);
}

}  // namespace klab
