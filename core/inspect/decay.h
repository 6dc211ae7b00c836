// SPDX-License-Identifier: Apache-2.0
// Half-lives of the state of a linear mixer.
#pragma once

#include <torch/types.h>

#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Decay of every channel of the state over many tokens, [HV, C] float64 on the CPU: C is K, or 1 if a head has one
/// decay for all channels or none.
struct Decays {
  torch::Tensor mean_g;     ///< mean log-decay over the tokens without resets; 0 if all tokens are resets
  torch::Tensor resets;     ///< fraction of tokens that erase the state: exp(g) is 0 in float32
  torch::Tensor half_life;  ///< ln 2 / -mean_g in tokens: infinite without decay, 0 if every token is a reset
};

/// Averages the log-decay over all added tokens. The mean determines the decay over many tokens: the product of the
/// decays of n tokens is exp(n mean g). A single hard reset would make it zero, so resets are counted separately. What
/// the update itself erases (delta rule) is not decay and not included.
class DecayMeter {
 public:
  /// Adds every token of the inputs; their gate may be raw. Throws UsageError if the number of heads or channels
  /// differs from that of earlier calls.
  void add(const kernels::RecurrenceInputs& in);

  /// Throws Error if nothing was added.
  Decays decays() const;

 private:
  torch::Tensor sum_, resets_;  // [HV, C]
  int64_t tokens_ = 0;
};

}  // namespace klab
