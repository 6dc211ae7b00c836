// SPDX-License-Identifier: Apache-2.0
// The update rules of linear mixers, with gates that are constant over time.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "kernels/recurrence/recurrence.h"

namespace klab {

/// Constant gates of one head. The channels of the key are in two groups, so that a decay per channel has two values:
/// the last quarter, and the others.
struct ConstantGates {
  double half_life = std::numeric_limits<double>::infinity();  ///< tokens; infinity: no decay
  double half_life_last = half_life;                           ///< of the last quarter of the channels
  double erase = 0;       ///< beta of the delta rule, in [0, 2]: the share of the old value that a write erases
  double erase_last = 0;  ///< of the last quarter of the channels

  bool operator==(const ConstantGates&) const = default;
};

/// Gates that are changed together.
using GateFields = std::vector<double ConstantGates::*>;

/// An update of the state S [K, V] by one key k and value v:
///
///     S = (I - k (e * k)^T) D S + k v^T
///
/// with D = diag(2^(-1 / half life)), and e the erase gate. Decoding ignores the scale of S, so a constant strength of
/// the write changes nothing and is left out; for the delta rules it is beta.
///
/// Which mixers share a rule, when their gates are constant (spec: arXiv 2510.26692, table 6):
/// - Comba erases along a key that is scaled by a constant, and corrects the query by a multiple of the key: the same
///   states as GDN up to scale.
/// - Longhorn's step is delta / (1 + delta |k|^2), which erases a share in (0, 1): DeltaNet.
/// - HGRN2 updates as GLA does. In the mixer, the key is one minus the decay, so constant decays would mean constant
///   keys; here its keys are free.
/// - GDN-2 is the formula above (its write gate per value channel is left out). RWKV-7 and DPLR read the undecayed
///   state for the erase: e / D in place of e. DPLR's two free vectors are k and e * k here: constant gates leave
///   nothing else that depends on the key.
struct UpdateRule {
  std::string name;
  std::vector<std::string> mixers;
  kernels::Decay decay;
  kernels::Update update;
  std::vector<GateFields> searched;  ///< what the search for the best gates varies, one after another
  bool extends_previous;             ///< the rule before it in update_rules() is the special case with fewer gates
};

/// Every rule; each family from the special case to the general one.
const std::vector<UpdateRule>& update_rules();

/// The rule of a mixer and its special cases; all rules if `mixer` is empty. Throws UsageError, which lists the known
/// mixers, for others.
std::vector<UpdateRule> update_rules_of(const std::string& mixer);

/// No decay, and with beta = 1 if the rule erases.
ConstantGates start_of(const UpdateRule& rule);

/// The number of channels in the last quarter, at least one.
int64_t last_channels(int64_t key_dim);

/// Inputs that write the values [B, T, V] under the keys [B, T, K] with each of G candidates for the gates, as G value
/// heads that share one key head. The final state is [B, G, K, V].
kernels::RecurrenceInputs write_inputs(const UpdateRule& rule, const std::vector<ConstantGates>& candidates,
                                       const at::Tensor& keys, const at::Tensor& values);

}  // namespace klab
