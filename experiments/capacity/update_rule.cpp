// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/update_rule.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/text.h"

namespace klab {
namespace {

using kernels::Decay;
using kernels::Update;

// [G, K]: one value for the last channels and one for the others.
at::Tensor by_channel(const std::vector<ConstantGates>& candidates, double ConstantGates::*others,
                      double ConstantGates::*last, const at::Tensor& keys) {
  const auto G = static_cast<int64_t>(candidates.size()), K = keys.size(-1);
  at::Tensor out = torch::empty({G, K}, keys.options());
  for (int64_t i = 0; i < G; ++i) {
    const ConstantGates& gates = candidates[static_cast<size_t>(i)];
    out[i].fill_(gates.*others);
    out[i].narrow(0, K - last_channels(K), last_channels(K)).fill_(gates.*last);
  }
  return out;
}

}  // namespace

const std::vector<UpdateRule>& update_rules() {
  const GateFields decay = {&ConstantGates::half_life, &ConstantGates::half_life_last},
                   decay_most = {&ConstantGates::half_life}, decay_last = {&ConstantGates::half_life_last},
                   erase = {&ConstantGates::erase, &ConstantGates::erase_last}, erase_most = {&ConstantGates::erase},
                   erase_last = {&ConstantGates::erase_last};
  static const std::vector<UpdateRule> rules = {
      {"additive", {"linear_attention"}, Decay::none, Update::accumulate, {}, false},
      {"additive + decay per head",
       {"mamba2", "mamba3", "mamba3_mimo", "retnet", "lightning"},
       Decay::scalar,
       Update::accumulate,
       {decay},
       true},
      {"additive + decay per channel",
       {"gla", "hgrn2"},
       Decay::channel,
       Update::accumulate,
       {decay_most, decay_last},
       true},
      {"delta", {"deltanet", "longhorn"}, Decay::none, Update::delta, {erase}, false},
      {"delta + decay per head",
       {"gdn", "comba", "gated_deltaproduct"},
       Decay::scalar,
       Update::delta,
       {decay, erase},
       true},
      {"delta + decay per channel",
       {"kda", "kda_product"},
       Decay::channel,
       Update::delta,
       {decay_most, decay_last, erase},
       true},
      {"delta + decay and erase per channel",
       {"dplr", "gdn2", "rwkv7"},
       Decay::channel,
       Update::dplr,
       {decay_most, decay_last, erase_most, erase_last},
       true}};
  return rules;
}

std::vector<UpdateRule> update_rules_of(const std::string& mixer) {
  if (mixer.empty()) return update_rules();
  std::vector<UpdateRule> family;
  std::vector<std::string> known;
  for (const UpdateRule& rule : update_rules()) {
    if (!rule.extends_previous) family.clear();
    family.push_back(rule);
    if (std::find(rule.mixers.begin(), rule.mixers.end(), mixer) != rule.mixers.end()) return family;
    known.insert(known.end(), rule.mixers.begin(), rule.mixers.end());
  }
  refuse("MIXER = '{}' has no update rule for --untrained{} Known: {}", mixer,
         nearest(mixer, known).empty() ? "." : did_you_mean(mixer, known), join(known));
}

ConstantGates start_of(const UpdateRule& rule) {
  ConstantGates gates;
  if (rule.update != Update::accumulate) gates.erase = gates.erase_last = 1;
  return gates;
}

int64_t last_channels(int64_t key_dim) { return std::max<int64_t>(1, key_dim / 4); }

kernels::RecurrenceInputs write_inputs(const UpdateRule& rule, const std::vector<ConstantGates>& candidates,
                                       const at::Tensor& keys, const at::Tensor& values) {
  const int64_t B = keys.size(0), T = keys.size(1), K = keys.size(2), G = static_cast<int64_t>(candidates.size());
  kernels::RecurrenceInputs in;
  in.q = in.k = keys.unsqueeze(2);                               // [B, T, 1, K]
  in.v = values.unsqueeze(2).expand({B, T, G, values.size(2)});  // [B, T, G, V]
  const at::Tensor g =
      -std::log(2.0) / by_channel(candidates, &ConstantGates::half_life, &ConstantGates::half_life_last, keys);
  const at::Tensor erase = by_channel(candidates, &ConstantGates::erase, &ConstantGates::erase_last, keys);  // [G, K]
  if (rule.decay == Decay::scalar) in.g = g.select(1, 0).expand({B, T, G});
  if (rule.decay == Decay::channel) in.g = g.expand({B, T, G, K});
  if (rule.update == Update::delta) in.beta = erase.select(1, 0).expand({B, T, G});
  if (rule.update == Update::dplr) {
    in.k = in.k.expand({B, T, G, K});
    in.q = in.k;
    in.a = g.exp() * erase * in.k;
    in.b = -in.k;
  }
  return in;
}

}  // namespace klab
