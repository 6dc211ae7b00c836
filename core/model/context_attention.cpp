// SPDX-License-Identifier: Apache-2.0
#include "core/model/context_attention.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/nn/module.h>

#include <memory>

namespace klab {
namespace {

using torch::Tensor;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

// Keys and values as rows of one tensor, to send them together.
Tensor packed(const Tensor& k, const Tensor& v) { return torch::cat({k.flatten(2), v.flatten(2)}, 2); }

std::pair<Tensor, Tensor> unpacked(const Tensor& rows, const Tensor& k, const Tensor& v) {
  const int64_t B = rows.size(0), count = rows.size(1), keys = k.size(2) * k.size(3);
  return {rows.narrow(2, 0, keys).reshape({B, count, k.size(2), k.size(3)}),
          rows.narrow(2, keys, rows.size(2) - keys).reshape({B, count, v.size(2), v.size(3)})};
}

kernels::AttentionInputs first_sequence(const kernels::AttentionInputs& in, int64_t first) {
  return {in.q.narrow(1, 0, first), in.k.narrow(1, 0, first), in.v.narrow(1, 0, first), {}, in.scale};
}

kernels::PartialAttention forward(const ContextPart& part, const kernels::AttentionInputs& in, int64_t first,
                                  const std::function<void(const kernels::AttentionInputs&)>& seen) {
  const kernels::AttentionInputs own = first_sequence(in, first);
  kernels::PartialAttention result = kernels::partial_attention(own, /*causal=*/true);
  const Tensor sent = packed(in.k, in.v);
  for (int64_t owner = 0; owner + 1 < part.ranks->size(); ++owner) {
    const auto [k, v] = unpacked(past_rows_of(part, sent, owner), in.k, in.v);
    if (k.size(1) == 0) continue;
    result = join(result, kernels::partial_attention({own.q, k, v, {}, in.scale}, /*causal=*/false));
    if (seen) seen({own.q, torch::cat({k, own.k}, 1), torch::cat({v, own.v}, 1), {}, in.scale});
  }
  return result;
}

class ContextAttentionBack : public torch::autograd::Node {
 public:
  ContextAttentionBack(std::shared_ptr<const ContextPart> part, const kernels::AttentionInputs& in, int64_t first,
                       const kernels::PartialAttention& result)
      : part_(std::move(part)),
        first_(first),
        scale_(in.scale),
        q_(in.q, false),
        k_(in.k, false),
        v_(in.v, false),
        o_(result.o, false),
        lse_(result.lse, false) {}

  variable_list apply(variable_list&& d_out) override {
    const kernels::AttentionInputs in{q_.unpack(), k_.unpack(), v_.unpack(), {}, scale_};
    const kernels::AttentionInputs own = first_sequence(in, first_);
    const kernels::PartialAttention whole{o_.unpack(), lse_.unpack()};
    const auto gradients = [&](const Tensor& k, const Tensor& v, bool causal) {
      return kernels::partial_attention_backward({own.q, k, v, {}, scale_}, whole, d_out[0], causal);
    };
    const kernels::AttentionGradients of_own = gradients(own.k, own.v, /*causal=*/true);
    Tensor d_q = torch::zeros_like(in.q), sent = packed(in.k, in.v), d_sent = torch::zeros_like(sent);
    d_q.narrow(1, 0, first_).add_(of_own.q);
    d_sent.narrow(1, 0, first_).add_(packed(of_own.k, of_own.v));
    for (int64_t owner = 0; owner + 1 < part_->ranks->size(); ++owner) {
      const Tensor rows = past_rows_of(*part_, sent, owner);
      Tensor d_rows = rows;  // none
      if (rows.size(1) > 0) {
        const auto [k, v] = unpacked(rows, in.k, in.v);
        const kernels::AttentionGradients d = gradients(k, v, /*causal=*/false);
        d_q.narrow(1, 0, first_).add_(d.q);
        d_rows = packed(d.k, d.v);
      }
      add_gradients_of_past_rows(*part_, d_rows, owner, d_sent);
    }
    const auto [d_k, d_v] = unpacked(d_sent, in.k, in.v);
    return {d_q, d_k, d_v};
  }

  void release_variables() override {
    for (SavedVariable* one : {&q_, &k_, &v_, &o_, &lse_}) one->reset_data();
  }

 private:
  std::shared_ptr<const ContextPart> part_;
  int64_t first_;
  std::optional<double> scale_;
  SavedVariable q_, k_, v_, o_, lse_;
};

}  // namespace

Tensor context_attention(const std::shared_ptr<const ContextPart>& part, const kernels::AttentionInputs& in,
                         int64_t first, const std::function<void(const kernels::AttentionInputs&)>& seen) {
  const bool differentiated = torch::GradMode::is_enabled() && in.q.requires_grad();
  kernels::PartialAttention result;
  {
    const torch::NoGradGuard no_grad;
    result = forward(*part, {in.q.detach(), in.k.detach(), in.v.detach(), {}, in.scale}, first, seen);
  }
  if (!differentiated) return result.o;
  const std::shared_ptr<torch::autograd::Node> node(new ContextAttentionBack(part, in, first, result),
                                                    torch::autograd::deleteNode);
  node->set_next_edges({torch::autograd::impl::gradient_edge(in.q), torch::autograd::impl::gradient_edge(in.k),
                        torch::autograd::impl::gradient_edge(in.v)});
  const Tensor o = result.o.detach();
  torch::autograd::set_history(o, node);
  return o;
}

}  // namespace klab
