// SPDX-License-Identifier: Apache-2.0
// Mamba-3.
#pragma once

#include "core/model/layers.h"
#include "core/model/token_mixer.h"

namespace klab {

/// Mamba-3 (arXiv 2603.15569): one input projection to [z, x, B, C, dt, A, lambda, theta], norms and biases on B and C,
///     dt = softplus(dt + dt_bias)   alpha = exp(-dt max(softplus(A), 1e-4))   lambda = sigmoid(lambda)
///     beta = (1 - lambda) dt alpha   gamma = lambda dt   angle = angle + pi tanh(theta) dt
///     S = alpha S + beta B' x'^T + gamma B x^T   y = S^T C + D x   out = W (y * silu(z))
/// where B' and x' are those of the preceding token (trapezoidal rule; there is no convolution), and B and C are
/// rotated by `angle`, which gives the transition complex eigenvalues. With rank R > 1 (MIMO) a token writes R pairs
/// B_r, x_r = p_r * x, and reads with R queries, y_r = S^T C_r + D x_r, which are summed after their gates z_r.
class Mamba3 : public TokenMixer {
 public:
  struct Options : Configurable {
    int64_t state = 0;
    int64_t groups = 1;
    double rope_fraction = 0.5;
    void visit(Fields& fields) override;
  };

  Mamba3(const MixerShape& shape, const Options& options) : Mamba3(shape, options, /*rank=*/1) {}

  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;
  void initialise(const at::Generator& generator) override;

 protected:
  Mamba3(const MixerShape& shape, const Options& options, int64_t rank);
  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  /// The inputs of the recurrence and of what is added to its output. R = rank.
  struct Step {
    torch::Tensor C, B;       ///< [B, T, R, H, K], rotated
    torch::Tensor x;          ///< [B, T, R, H, V]
    torch::Tensor log_alpha;  ///< [B, T, H]
    torch::Tensor gamma;      ///< [B, T, H]
    torch::Tensor before;     ///< (1 - lambda) dt = beta / alpha, [B, T, H]
  };
  torch::Tensor angles(const torch::Tensor& theta, const torch::Tensor& dt, const Sequences& sequences,
                       State* state) const;
  torch::Tensor recur(const Step& step, const Sequences& sequences, State* state) const;
  torch::Tensor gated(const torch::Tensor& y, const torch::Tensor& z) const;
  double products_per_token() const;

  int64_t heads_, head_dim_, state_dim_, groups_, rank_, rotated_pairs_;
  Linear in_proj_, out_proj_;
  RmsNorm B_norm_, C_norm_;
  torch::Tensor dt_bias_, D_;               // [H]
  torch::Tensor B_bias_, C_bias_;           // [H, R, K]
  torch::Tensor mimo_x_, mimo_z_, mimo_o_;  // [H, R, V], undefined if R = 1
};

}  // namespace klab
