// The operators once more, as loops over plain numbers: independent of ATen's arithmetic, float64, slow. Each
// can be made to contain one of the likely mistakes, to show that the checks detect it.
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
  sequences_mixed,  ///< a packed sequence goes on with the state of the one before
  decay_late,       ///< g of the token before
  erase_forgotten,  ///< the delta rule or DPLR only accumulates
  taps_reversed,
  past_ignored,  ///< a convolution that starts from zeros
  eps_on_mean,   ///< L2 norm with the eps of an RMS norm
  weight_forgotten,
  gate_forgotten,
  clamped_gate,  ///< max(g, lower bound) instead of a rescaled sigmoid
  bias_forgotten,
};

/// recurrence() on its inputs by name: "o" and "final_state".
NamedTensors recurrence_oracle(const NamedTensors& in, Mistake mistake = Mistake::none);

/// short_conv() without activation: "y".
NamedTensors short_conv_oracle(const NamedTensors& in, Mistake mistake = Mistake::none);

/// l2norm(): "y".
NamedTensors l2norm_oracle(const NamedTensors& in, double eps, Mistake mistake = Mistake::none);

/// gated_rms_norm() with sigmoid; rms_norm() where there is no gate: "y".
NamedTensors rms_norm_oracle(const NamedTensors& in, double eps, Mistake mistake = Mistake::none);

/// kda_gate() per channel, softplus or (lower_bound < 0) rescaled sigmoid: "g".
NamedTensors kda_gate_oracle(const NamedTensors& in, double lower_bound, Mistake mistake = Mistake::none);

}  // namespace klab
