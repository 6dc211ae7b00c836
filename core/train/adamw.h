// SPDX-License-Identifier: Apache-2.0
// AdamW with weight decay on matrices only.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/train/optimizer.h"

namespace klab {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};

/// AdamW (Loshchilov and Hutter 2019). Weight decay applies to matrices, not to parameters with one dimension (norm
/// weights, biases, A_log, dt_bias, D). The arithmetic is ATen's fused kernel. The state is `adamw.first_moment.*`,
/// `adamw.second_moment.*` and `adamw.step.*`.
class AdamW : public Optimizer {
 public:
  /// Of all parameters of `module` that require gradients.
  AdamW(const torch::nn::Module& module, const AdamWOptions& options);
  AdamW(const std::vector<TrainedParameter>& parameters, const AdamWOptions& options);

  std::map<std::string, torch::Tensor> state() const override;

 protected:
  void update(double lr) override;

 private:
  // Parameters with the same weight decay and learning rate.
  struct Group {
    double weight_decay, lr_factor;
    std::vector<std::string> names = {};
    std::vector<torch::Tensor> parameters = {}, first_moments = {}, second_moments = {}, steps = {};
  };
  Group& group_of(const TrainedParameter& parameter);

  AdamWOptions options_;
  std::vector<Group> groups_;
};

}  // namespace klab
