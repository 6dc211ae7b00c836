// SPDX-License-Identifier: Apache-2.0
#include "kernels/kda_gate/kda_gate.h"

#include <ATen/ATen.h>

#include <cmath>
#include <optional>

#include "core/check/inputs.h"

namespace klab {
namespace {

using at::Tensor;
using kernels::Implementation;

struct Kind {
  std::string name, serves;
  bool per_channel;
  std::optional<double> lower_bound;
};

NamedTensors make_inputs(const Kind& kind, const Workload& w, uint64_t seed) {
  at::Generator generator = seeded_generator(seed);
  std::vector<int64_t> shape{w.B, w.T, w.H};
  if (kind.per_channel) shape.push_back(w.K);
  Tensor raw = normal(shape, generator);
  if (w.gates == Gates::strong) raw = raw * 10;
  if (w.gates == Gates::saturated) raw = raw.sign() * 1000;
  const Tensor dt = uniform({kind.per_channel ? w.H * w.K : w.H}, std::log(1e-3), std::log(1e-1), generator).exp();
  return {{"raw", raw},
          {"A_log", uniform({w.H}, 1, 16, generator).log()},
          {"dt_bias", dt.expm1().log()}};  // inverse softplus, as in the initialisation of the layers
}

NamedTensors definition(const Kind& kind, const NamedTensors& in) {
  const Tensor raw = find(in, "raw");
  const Tensor x = raw + find(in, "dt_bias").view(raw.sizes().slice(2));
  const Tensor A_log = find(in, "A_log"), A = (raw.dim() == 4 ? A_log.unsqueeze(-1) : A_log).exp();
  if (kind.lower_bound) return {{"g", *kind.lower_bound * at::log_sigmoid(A * x).exp()}};
  return {{"g", A * at::log_sigmoid(-x)}};
}

OperatorCase make_case(const Kind& kind) {
  OperatorCase result;
  result.name = kind.name;
  result.serves = kind.serves;
  for (const Implementation implementation : kernels::kda_gate_implementations()) {
    const bool cuda = implementation == Implementation::cuda;
    result.forms.push_back({.implementation = implementation, .in_float64 = !cuda, .on_cpu = !cuda});
  }
  result.workloads = {
      {"one token", 1, 1, 2, 2, 12, 12, true},
      {"odd sizes", 2, 63, 3, 3, 60, 60, true},
      {"strong", 1, 65, 2, 2, 100, 100, false, Gates::strong},
      {"saturated", 1, 65, 2, 2, 100, 100, true, Gates::saturated},
      {"long", 1, 1000, 2, 2, 64, 64},
  };
  result.benches = {{"T=4096 H=16 K=128", 1, 4096, 16, 16, 128, 128}};
  result.wide = {"g", "A_log", "dt_bias"};
  // In its tail the sigmoid is exp(A x) with |A x| in the tens, but for most values |A x| is a few.
  if (kind.lower_bound) result.amplification = 4;
  result.inputs = [kind](const Workload& w, uint64_t seed) { return make_inputs(kind, w, seed); };
  result.run = [kind](Implementation implementation, const NamedTensors& in) -> NamedTensors {
    return {{"g", kernels::kda_gate(find(in, "raw"), find(in, "A_log"), find(in, "dt_bias"), kind.lower_bound,
                                    implementation)}};
  };
  result.definition = [kind](const NamedTensors& in) { return definition(kind, in); };
  // The derivative of a sigmoid s is s (1 - s). Where the gate saturates, 1 - s cancels: the error is then relative to
  // the largest derivatives in the tensor, about 16 times the RMS, as after 16^2 additions.
  const int64_t cancelled = kind.lower_bound ? 256 : 2;
  result.terms = [cancelled](const Workload& w, std::string_view tensor) {
    if (tensor == "d_A_log") return w.B * w.T * w.K;
    if (tensor == "d_dt_bias") return w.B * w.T;
    return tensor == "d_raw" ? cancelled : 2;
  };
  result.flops = [kind](const Workload& w) {
    return 8 * static_cast<double>(w.B * w.T * w.H * (kind.per_channel ? w.K : 1));
  };
  return result;
}

}  // namespace

std::vector<OperatorCase> kda_gate_cases() {
  return {make_case({"kda_gate/softplus", "KDA", true, std::nullopt}),
          make_case({"kda_gate/lower_bound", "KDA with a lower bound", true, -5.0}),
          make_case({"kda_gate/scalar", "GDN", false, std::nullopt})};
}

}  // namespace klab
