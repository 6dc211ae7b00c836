// SPDX-License-Identifier: Apache-2.0
// Decays and write strengths that several mixers compute from x. Each class registers its parameters with its mixer,
// under the names of the public layers.
#pragma once

#include <torch/types.h>

#include <optional>

#include "core/model/layers.h"
#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Draws A_log = log U(1, 16): rates exp(A_log) uniform in [1, 16].
void draw_A_log(const torch::Tensor& A_log, const at::Generator& generator);

/// Draws dt_bias = inverse_softplus(exp(U(log 1e-3, log 1e-1))), so that softplus(dt_bias) is
/// log-uniform in [1e-3, 1e-1].
void draw_dt_bias(const torch::Tensor& dt_bias, const at::Generator& generator);

/// The write strength beta = sigmoid(W x), [B, T, heads]; doubled if negative eigenvalues are allowed. With several
/// writes per token `heads` are those of all writes.
class Beta {
 public:
  Beta(torch::nn::Module& owner, int64_t width, int64_t heads, bool allow_neg_eigval);
  void give_to(kernels::RecurrenceInputs& in, const SharedInput& x) const;  ///< the kernel applies the sigmoid
  torch::Tensor value(const torch::Tensor& x) const;                        ///< float32 or wider
  const Linear& projection() const { return b_proj_; }                      ///< of x

 private:
  bool allow_neg_eigval_;
  Linear b_proj_;
};

/// One log-decay per head, as in Gated DeltaNet: -exp(A_log) softplus(W x + dt_bias), [B, T, heads].
class HeadDecay {
 public:
  HeadDecay(torch::nn::Module& owner, int64_t width, int64_t heads);
  void give_to(kernels::RecurrenceInputs& in, const SharedInput& x) const;
  torch::Tensor value(const torch::Tensor& x) const;
  void initialise(const at::Generator& generator);
  const Linear& projection() const { return a_proj_; }  ///< of x

 private:
  Linear a_proj_;
  torch::Tensor A_log_, dt_bias_;  // [heads]
};

/// One log-decay per channel, as in KDA: -exp(A_log[h]) softplus(W_up W_down x + dt_bias), [B, T, heads, K]; for the
/// form with a lower bound see kernels/kda_gate/kda_gate.h. The projection has rank K, or full rank.
class ChannelDecay {
 public:
  ChannelDecay(torch::nn::Module& owner, int64_t width, int64_t heads, int64_t K, bool full_rank, double lower_bound);
  void give_to(kernels::RecurrenceInputs& in, const SharedInput& x) const;
  torch::Tensor value(const torch::Tensor& x) const;
  void initialise(const at::Generator& generator);
  const Linear& projection() const { return f_proj_ ? f_proj_ : f_a_proj_; }  ///< of x

 private:
  torch::Tensor raw(const SharedInput& x) const;

  int64_t heads_;
  std::optional<double> lower_bound_;
  Linear f_proj_{nullptr}, f_a_proj_{nullptr}, f_b_proj_{nullptr};
  torch::Tensor A_log_;    // [heads]
  torch::Tensor dt_bias_;  // [heads * K]
};

}  // namespace klab
