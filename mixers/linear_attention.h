// SPDX-License-Identifier: Apache-2.0
// Linear attention.
#pragma once

#include "mixers/linear_mixer.h"

namespace klab {

/// S = S + k v^T (Katharopoulos et al. 2020), with a feature map on q and k:
///     elementwise_product   (W_1 x + b_1) * (W_2 x + b_2) per head, as in the public layer
///     elu                   elu(x) + 1
///     relu, identity
class LinearAttention : public LinearMixer {
 public:
  struct Options : LinearOptions {
    std::string feature_map = "elementwise_product";
    Options() {
      output_gate = "none";
      short_conv = false;
    }
    void visit(Fields& fields) override;
  };

  LinearAttention(const MixerShape& shape, const Options& options);

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const SharedInput& x, const Sequences& sequences,
                   State* state) const override;

 private:
  torch::Tensor features(const torch::Tensor& x, const Linear& one, const Linear& two) const;

  std::string feature_map_;
  Linear q_map1_{nullptr}, q_map2_{nullptr}, k_map1_{nullptr}, k_map2_{nullptr};
};

}  // namespace klab
