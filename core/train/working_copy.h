// SPDX-License-Identifier: Apache-2.0
// Mixed precision: a model's copy in a narrower dtype, which computes the training steps.
#pragma once

#include <torch/types.h>

#include <utility>
#include <vector>

#include "core/model/decoder.h"

namespace klab {

/// A copy of a float32 model in another dtype. The copy runs forward and backward passes; the model keeps the weights
/// that the optimiser updates (master weights), and GradientSums gives it the gradients. Parameters that are float32 in
/// every dtype, such as decay rates and routers' biases, are shared.
class WorkingCopy {
 public:
  WorkingCopy(const Decoder& model, torch::ScalarType dtype);

  Decoder& model() { return copy_; }

  /// Rounds the weights that this process has to the copy's dtype. For after every change of them.
  void refresh();

 private:
  Decoder copy_;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> parameters_;  // the model's, the copy's
};

}  // namespace klab
