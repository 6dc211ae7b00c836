// SPDX-License-Identifier: Apache-2.0
#include "core/train/target_loss.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/functional/loss.h>

#include <algorithm>
#include <vector>

namespace klab {
namespace {

using torch::Tensor;

// Predictions of a part of the targets, from its logits [n, V] in float32.
Tensor losses_of(const Tensor& logits, const Tensor& labels) {
  return torch::cross_entropy_loss(logits, labels, {}, at::Reduction::None);
}
Tensor wrong_of(const Tensor& logits, const Tensor& labels) { return logits.argmax(-1).ne(labels).to(torch::kLong); }

// Splits the targets, and collects losses and wrong answers.
class Parts {
 public:
  Parts(const Tensor& hidden, const Tensor& weight, const Tensor& labels)
      : hidden_(hidden),
        weight_(weight),
        labels_(labels),
        rows_(std::max<int64_t>(1, kLogitsAtOnce / weight.size(0))) {}

  // Calls visit(first, count, logits, labels) for every part.
  template <class Visit>
  TargetLoss each(const Visit& visit) const {
    std::vector<Tensor> losses, wrong;
    for (int64_t first = 0; first < labels_.size(0); first += rows_) {
      const int64_t count = std::min(rows_, labels_.size(0) - first);
      const Tensor labels = labels_.narrow(0, first, count);
      const Tensor logits = hidden_.narrow(0, first, count).mm(weight_.t()).to(torch::kFloat);
      losses.push_back(losses_of(logits, labels));
      wrong.push_back(wrong_of(logits, labels));
      visit(first, count, logits, labels);
    }
    return {{}, torch::cat(losses), torch::cat(wrong)};
  }

 private:
  const Tensor &hidden_, &weight_, &labels_;
  int64_t rows_;
};

class LossInParts : public torch::autograd::Function<LossInParts> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;

  static Tensor forward(Context* context, const Tensor& hidden, const Tensor& weight, const Tensor& labels,
                        TargetLoss* found) {
    const double share = 1 / static_cast<double>(labels.size(0));
    Tensor d_hidden = torch::empty_like(hidden), d_weight = torch::zeros_like(weight, torch::kFloat);
    *found = Parts(hidden, weight, labels)
                 .each([&](int64_t first, int64_t count, const Tensor& logits, const Tensor& target) {
                   Tensor d_logits = logits.softmax(-1);
                   d_logits.scatter_add_(1, target.unsqueeze(1), torch::full({count, 1}, -1.0, d_logits.options()));
                   d_logits = d_logits.mul_(share).to(hidden.scalar_type());
                   d_hidden.narrow(0, first, count).copy_(d_logits.mm(weight));
                   d_weight.add_(d_logits.t().mm(hidden.narrow(0, first, count)));
                 });
    context->save_for_backward({d_hidden, d_weight.to(weight.scalar_type())});
    return found->losses.mean();
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    const Tensors saved = context->get_saved_variables();
    return {saved[0] * d_out[0], saved[1] * d_out[0], Tensor(), Tensor()};
  }
};

}  // namespace

TargetLoss target_loss(const Decoder& model, const Tensor& hidden, const Tensor& labels, bool each) {
  const Tensor& weight = model->head_weight();
  if (labels.size(0) * weight.size(0) <= kLogitsAtOnce) {
    const Tensor logits = model->head(hidden).to(torch::kFloat), known = logits.detach();
    return {torch::cross_entropy_loss(logits, labels), each ? losses_of(known, labels) : Tensor(),
            wrong_of(known, labels)};
  }
  TargetLoss found;
  if (torch::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad())) {
    const Tensor mean = LossInParts::apply(hidden, weight, labels, &found);
    found.mean = mean;
    return found;
  }
  found = Parts(hidden, weight, labels).each([](int64_t, int64_t, const Tensor&, const Tensor&) {});
  found.mean = found.losses.mean();
  return found;
}

}  // namespace klab
