// SPDX-License-Identifier: Apache-2.0
// AdamW with weight decay on matrices only.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace klab {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};

/// AdamW (Loshchilov and Hutter 2019) over the parameters of a module. Weight decay applies to matrices, not to
/// parameters with one dimension (norm weights, biases, A_log, dt_bias, D). The arithmetic is ATen's fused kernel.
class AdamW {
 public:
  AdamW(const torch::nn::Module& module, const AdamWOptions& options);

  /// One update with the current gradients; parameters without one do not change.
  void step(double lr);
  void zero_grad();

  /// Scales all gradients so that their global norm is at most `limit`; returns the norm before scaling (which may not
  /// be finite).
  double clip_grad_norm(double limit);

  /// The moments and step counts by name. They share storage with the optimiser: read them to save, copy into them to
  /// load.
  std::map<std::string, torch::Tensor> state() const;

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<std::string> names;
    std::vector<torch::Tensor> parameters, first_moments, second_moments, steps;
  };

  AdamWOptions options_;
  std::vector<Group> groups_;
};

}  // namespace klab
