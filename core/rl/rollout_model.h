// SPDX-License-Identifier: Apache-2.0
// The model that samples answers: the trained one, or its copy in fewer bits.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/model/decoder.h"
#include "core/train/working_copy.h"

namespace klab {

class RolloutModel {
 public:
  /// `dtype`: float32 (the model itself), bfloat16 (a copy), or int8 (a copy that has int8 weights where
  /// may_be_int8(), and shares all other parameters).
  RolloutModel(const Decoder& model, const std::string& dtype);

  Decoder& model() { return copy_ ? copy_->model() : model_; }

  /// Rounds the trained model's present weights. For the start of every iteration.
  void refresh();

 private:
  Decoder model_;  // the trained one, or the int8 copy
  std::unique_ptr<WorkingCopy> copy_;
  std::vector<std::pair<torch::Tensor, Linear>> quantised_;  // the trained weight, and the copy's layer
};

}  // namespace klab
