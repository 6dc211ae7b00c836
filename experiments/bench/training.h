// SPDX-License-Identifier: Apache-2.0
// Speed of training small models: against the rate of matrix products in the same run, and where the time goes.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace klab {

struct TrainingSpeed {
  double milliseconds = 0;  ///< per step, median
  double tokens_per_second = 0;
  double flops = 0;          ///< per step: three times those of the forward pass (account(), without the optimiser)
  double product_flops = 0;  ///< per second, of products of 1024 x 1024 float32 matrices before and after
  /// Shares of the time by what it is spent on: "products", "recurrence", "other klab operators", "elementwise",
  /// "optimiser", "other ATen", "outside of operators" (dispatch and autograd, which include waiting for data).
  std::map<std::string, double> shares;

  double share_of_product() const { return flops / (milliseconds / 1e3) / product_flops; }
};

/// Trains two layers of a mixer with heads of width 32 on MQAR, `tokens` tokens per step in sequences of 256, for about
/// `seconds`.
TrainingSpeed measure_training(const std::string& mixer, int64_t width, int64_t tokens, double seconds);

}  // namespace klab
