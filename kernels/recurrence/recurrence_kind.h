// SPDX-License-Identifier: Apache-2.0
// The options that distinguish the members of the recurrence family.
#pragma once

#include <cstdint>

namespace klab::kernels {

/// The shape of the decay D_t in the recurrence of recurrence.h.
enum class Decay : uint8_t { none, scalar, channel };

/// The state update of one token.
enum class Update : uint8_t {
  accumulate,  ///< S = D S + k v^T                                            (linear attention, GLA, Mamba2, ...)
  delta,       ///< S = D S;  S = S + beta k (v - S^T k)^T: decay, then erase  (KDA, Gated DeltaNet, DeltaNet)
  dplr,        ///< S = D S + k v^T + b (a^T S_prev): `a` reads the undecayed state              (DPLR, RWKV-7)
};

/// How the log-decay is computed from the input g: used as it is, or through a gate (kda_gate.h).
enum class Gate : uint8_t { log_decay, softplus, bounded };

}  // namespace klab::kernels
