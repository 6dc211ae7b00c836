// SPDX-License-Identifier: Apache-2.0
// What all optimisers have in common.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace klab {

/// A parameter that an optimiser updates; the tensor shares its storage with the module's.
struct TrainedParameter {
  std::string name;  ///< "layer0.mixer.q_proj.weight"
  torch::Tensor tensor;
  double lr_factor = 1;  ///< on the learning rate of every step
};

/// The parameters of a module that require gradients, of those that this process has (own_parameters), in the module's
/// order. The others have rules of their own.
std::vector<TrainedParameter> trained_parameters(const torch::nn::Module& module);

class Optimizer {
 public:
  Optimizer() = default;
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  /// One update with the current gradients; parameters without one (experts without tokens since the last step) do not
  /// change, and neither does their state.
  void step(double lr) {
    const torch::NoGradGuard no_grad;
    update(lr);
    after_update();
  }

  /// The state by the names that it has in checkpoints, "adamw.first_moment.norm.weight". The tensors share storage
  /// with the optimiser: read them to save, copy into them to load.
  virtual std::map<std::string, torch::Tensor> state() const = 0;

  /// Bytes of temporary tensors during an update.
  virtual int64_t temporary_bytes() const { return 0; }

 protected:
  virtual void update(double lr) = 0;
  /// Runs after every update: for rules on the parameters themselves, such as limits of weights.
  virtual void after_update() {}
};

}  // namespace klab
