// SPDX-License-Identifier: Apache-2.0
// The exponential average of a model's weights.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

namespace klab {

/// Averages a <- decay a + (1 - decay) w of all parameters of a module, those without gradients (the routers' biases)
/// included. They begin with the parameters' values, so that no bias correction is needed.
class WeightAverage {
 public:
  /// 0 < decay < 1.
  WeightAverage(const torch::nn::Module& module, double decay);

  /// Begins again with the parameters' present values.
  void restart();
  /// For after every step.
  void update();
  /// Exchanges the parameters and their averages, bit for bit.
  void swap();

  /// The averages as "ema.<parameter>"; they share storage with this object.
  std::map<std::string, torch::Tensor> state() const;

 private:
  double decay_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> parameters_, averages_;
};

/// While it lives, the parameters have the values of their averages. Does nothing for null.
class AveragedWeights {
 public:
  explicit AveragedWeights(WeightAverage* average) : average_(average) {
    if (average_ != nullptr) average_->swap();
  }
  ~AveragedWeights() {
    if (average_ != nullptr) average_->swap();
  }
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  WeightAverage* average_;
};

}  // namespace klab
