// SPDX-License-Identifier: Apache-2.0
// The preconditioner of the delta rule.
#pragma once

#include <torch/nn/pimpl.h>

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// Preconditioned DeltaNet (arXiv 2604.21100): the write of a delta rule goes along the scaled key M k, while its read
/// goes along k. Channels whose keys were large of late are scaled down, others up, within [1 / squash, squash]:
///     A = e^g A + beta k^2     M = squash^-softsign(log A - center)     softsign(r) = r / (1 + |r|)
/// per key head and channel, with g and beta of its own.
class PreconditionerImpl : public torch::nn::Module {
 public:
  PreconditionerImpl(int64_t width, int64_t heads, int64_t key_dim, double squash);
  void initialise(const at::Generator& generator) { decay_.initialise(generator); }

  /// M for keys k [B, T, H, K] of unit length, in their shape. A is the state's tensor `preconditioner` [N, H, 1, K].
  torch::Tensor scales(const torch::Tensor& k, const torch::Tensor& x, const Sequences& sequences, State* state) const;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const;
  double flops(int64_t tokens) const;
  double decode_flops() const;

 private:
  int64_t heads_, key_dim_;
  double squash_;
  Beta beta_;
  HeadDecay decay_;
  torch::Tensor center_;  // [H]
};
TORCH_MODULE(Preconditioner);

/// Options of the mixers with a preconditioner: those of the mixer without it and `squash`.
template <class Base>
struct PreconditionedOptions : Base {
  double squash = 1.5;
  void visit(Fields& fields) override {
    Base::visit(fields);
    fields("squash", squash, {1, 2}, "bound of the preconditioner: it scales keys by 1 / squash to squash");
  }
};

/// A mixer with the delta rule S = e^g S;  S += beta (M k) (v - S^T k)^T, whose decay derived classes give.
class PreconditionedMixer : public LinearMixer {
 public:
  void initialise(const at::Generator& generator) override { preconditioner_->initialise(generator); }
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;

 protected:
  PreconditionedMixer(const MixerShape& shape, const DeltaOptions& options, double squash);

  /// The log-decay g, [B, T, HV] or [B, T, HV, K], at least float32.
  virtual torch::Tensor log_decay(const torch::Tensor& x) const = 0;

  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  Beta beta_;
  Preconditioner preconditioner_;
};

}  // namespace klab
