// SPDX-License-Identifier: Apache-2.0
// Speed of training models: against the rate of matrix products in the same run, and where the time goes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "experiments/bench/operator_times.h"
#include "experiments/run/run_config.h"

namespace klab {

/// What is trained: a model of `pattern` (as model.pattern), with width / head_dim heads.
struct TrainingWorkload {
  std::string task = "mqar";  ///< mqar, or language over a vocabulary of 256 with a target at every position
  std::vector<std::string> pattern;
  int64_t layers = 2, width = 64, head_dim = 32, length = 256;
  int64_t tokens = 8192;          ///< per step, in sequences of `length`
  std::string dtype = "float32";  ///< train.dtype

  RunConfig config() const;
};

/// The keys of a model of `pattern` with width / head_dim heads, at least one.
std::vector<Assignment> model_keys(const std::vector<std::string>& pattern, int64_t layers, int64_t width,
                                   int64_t head_dim);

struct TrainingSpeed {
  double milliseconds = 0;  ///< per step, median
  double tokens_per_second = 0;
  double flops = 0;          ///< per step: three times those of the forward pass (account(), without the optimiser)
  double product_flops = 0;  ///< per second, of products of 1024 x 1024 float32 matrices before and after
  /// Shares of the time by what it is spent on, by the names of time_categories(). "products" includes those of the
  /// output head, "loss" is the rest of what happens between the last norm and its backward pass, "data" is waiting for
  /// the next batch, and "outside of operators" dispatch and autograd. They add up to 1.
  std::map<std::string, double> shares;
  std::vector<OperatorTime> operators;  ///< the slowest first

  double share_of_product() const { return flops / (milliseconds / 1e3) / product_flops; }
};

/// Trains with AdamW for about `seconds` after a warm-up.
TrainingSpeed measure_training(const TrainingWorkload& workload, double seconds);

}  // namespace klab
