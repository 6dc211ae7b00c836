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

/// The option `squash` of a mixer with a preconditioner.
void visit_squash(Fields& fields, double& squash);

/// Completes the inputs, which hold v, of the delta rule S = e^g S;  S += beta (M k) (v - S^T k)^T as a DPLR update.
/// All per value head and at least float32: q and k [B, T, HV, K] of unit length, scales M [B, T, HV, K], g [B, T, HV]
/// or [B, T, HV, K], beta [B, T, HV].
void fill_preconditioned(kernels::RecurrenceInputs& in, const torch::Tensor& q, const torch::Tensor& k,
                         const torch::Tensor& scales, const torch::Tensor& g, const torch::Tensor& beta);

}  // namespace klab
