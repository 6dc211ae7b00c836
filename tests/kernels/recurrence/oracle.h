// SPDX-License-Identifier: Apache-2.0
// Independent implementations of the operators as scalar loops in float64, without ATen's arithmetic. Each can contain
// one of several likely mistakes, to test that the checks detect it.
#pragma once

#include "core/check/cases.h"

namespace klab {

enum class Mistake {
  none,
  read_before_write,  ///< o_t from S_{t-1}
  decay_after_erase,  ///< the delta rule's erase reads the undecayed state
  scale_forgotten,
  heads_tiled,  ///< value head hv reads head hv mod H instead of hv / (HV / H)
  beta_forgotten,
  a_reads_decayed,  ///< DPLR's a reads the decayed state
  initial_state_ignored,
  sequences_mixed,  ///< a packed sequence continues with the state of the preceding one
  decay_late,       ///< uses g of the preceding token
  erase_forgotten,  ///< the delta rule or DPLR only accumulates
  taps_reversed,
  past_ignored,  ///< the convolution ignores its initial state
  eps_on_mean,   ///< the L2 norm adds eps to the mean instead of the sum
  weight_forgotten,
  gate_forgotten,
  clamped_gate,  ///< max(g, lower bound) instead of a rescaled sigmoid
  bias_forgotten,
};

/// recurrence() on named inputs: "o" and "final_state".
NamedTensors recurrence_oracle(const NamedTensors& in, Mistake mistake = Mistake::none);

/// short_conv() without activation: "y".
NamedTensors short_conv_oracle(const NamedTensors& in, Mistake mistake = Mistake::none);

/// l2norm(): "y".
NamedTensors l2norm_oracle(const NamedTensors& in, double eps, Mistake mistake = Mistake::none);

/// gated_rms_norm() with sigmoid, or rms_norm() without a gate: "y".
NamedTensors rms_norm_oracle(const NamedTensors& in, double eps, Mistake mistake = Mistake::none);

/// kda_gate() per channel, with softplus or (lower_bound < 0) the bounded gate: "g".
NamedTensors kda_gate_oracle(const NamedTensors& in, double lower_bound, Mistake mistake = Mistake::none);

}  // namespace klab
