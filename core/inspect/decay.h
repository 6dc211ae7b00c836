// How long the memory of a linear mixer lasts: the half-lives of its decay.
#pragma once

#include <torch/types.h>

#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Decay of every channel of the state over many tokens, [HV, C] float64 on the CPU: C is K, or 1 where one number per
/// head (or none) fades all channels alike.
struct Decays {
  torch::Tensor mean_g;     ///< mean of the log-decay over the tokens that are no resets; 0 where all are
  torch::Tensor resets;     ///< share of the tokens after which nothing is left: exp(g) is 0 in float32
  torch::Tensor half_life;  ///< ln 2 / -mean_g tokens: infinite where nothing fades, 0 where every token resets
};

/// Averages the log-decay over all tokens that it is shown. The mean of g is what many steps amount to: the product of
/// the decays of n tokens is exp(n mean g). A single hard reset would make that nothing, so resets are counted apart.
/// What the update itself takes away (the delta rule's erasing) is not decay and not in it.
class DecayMeter {
 public:
  /// Adds every token of inputs whose gate may still be raw. Throws UsageError for another number of heads or channels
  /// than before.
  void add(const kernels::RecurrenceInputs& in);

  /// Throws Error when nothing was added.
  Decays decays() const;

 private:
  torch::Tensor sum_, resets_;  // [HV, C]
  int64_t tokens_ = 0;
};

}  // namespace klab
