// SPDX-License-Identifier: Apache-2.0
// Cases of the norms. The definitions here are independent of the kernels, so float64 can be checked too.
#include <ATen/ATen.h>

#include "core/check/inputs.h"
#include "kernels/norms/norms.h"

namespace klab {
namespace {

using at::Tensor;
using kernels::Implementation;

constexpr double kL2Eps = 1e-6, kRmsEps = 1e-5;  // the defaults that the layers use

Tensor logistic(const Tensor& x) { return 1 / (1 + (-x).exp()); }

Tensor rms_normalised(const NamedTensors& in) {
  const Tensor x = find(in, "x");
  const Tensor mean = (x * x).sum(-1, /*keepdim=*/true) / static_cast<double>(x.size(-1));
  return find(in, "weight") * x / (mean + kRmsEps).sqrt();
}

NamedTensors make_inputs(const Workload& w, uint64_t seed, bool weight, bool gate) {
  at::Generator generator = seeded_generator(seed);
  const std::vector<int64_t> shape{w.B, w.T, w.H, w.K};
  // Rows of very different magnitude, down to where eps matters.
  const Tensor size = uniform({w.B, w.T, w.H, 1}, -7, 3, generator).exp();
  NamedTensors in{{"x", normal(shape, generator) * size}};
  if (weight) in.push_back({"weight", 1 + 0.2 * normal({w.K}, generator)});
  if (gate) in.push_back({"gate", 2 * normal(shape, generator)});
  return in;
}

// The common part of the cases; `operations` is FLOPs per element.
OperatorCase norm_case(const std::string& name, const std::string& serves, double operations,
                       const std::vector<Implementation>& implementations) {
  OperatorCase result;
  result.name = name;
  result.serves = serves;
  for (const Implementation implementation : implementations) {
    const bool cuda = implementation == Implementation::cuda;
    result.forms.push_back({.implementation = implementation,
                            .in_float64 = !cuda && implementation != Implementation::cpu,
                            .on_cpu = !cuda});
  }
  result.workloads = {
      {"one row", 1, 1, 1, 1, 64, 64, true},
      {"odd sizes", 2, 63, 3, 3, 60, 60, true},
      {"one past a chunk", 1, 65, 2, 2, 100, 100},
      {"long", 1, 1000, 2, 2, 128, 128},
  };
  result.benches = {{"T=4096 H=16 K=128", 1, 4096, 16, 16, 128, 128}};
  result.terms = [](const Workload& w, std::string_view tensor) {
    return tensor == "d_weight" ? w.B * w.T * w.H : w.K;
  };
  result.flops = [operations](const Workload& w) { return operations * static_cast<double>(w.B * w.T * w.H * w.K); };
  return result;
}

OperatorCase l2norm_case() {
  OperatorCase result = norm_case("l2norm", "KDA, GDN", 3, kernels::l2norm_implementations());
  result.inputs = [](const Workload& w, uint64_t seed) { return make_inputs(w, seed, false, false); };
  result.run = [](Implementation implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::l2norm(find(in, "x"), kL2Eps, implementation)}};
  };
  result.definition = [](const NamedTensors& in) -> NamedTensors {
    const Tensor x = find(in, "x");
    return {{"y", x / ((x * x).sum(-1, /*keepdim=*/true) + kL2Eps).sqrt()}};
  };
  return result;
}

OperatorCase rms_norm_case() {
  OperatorCase result = norm_case("rms_norm", "every layer", 4, kernels::gated_rms_norm_implementations());
  result.inputs = [](const Workload& w, uint64_t seed) { return make_inputs(w, seed, true, false); };
  result.run = [](Implementation implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::rms_norm(find(in, "x"), find(in, "weight"), kRmsEps, implementation)}};
  };
  result.definition = [](const NamedTensors& in) -> NamedTensors { return {{"y", rms_normalised(in)}}; };
  return result;
}

OperatorCase rms_norm_of_gated_case() {
  OperatorCase result = norm_case("rms_norm_of_gated", "Mamba2", 8, {Implementation::reference});
  result.inputs = [](const Workload& w, uint64_t seed) { return make_inputs(w, seed, true, true); };
  result.run = [](Implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::rms_norm_of_gated(find(in, "x"), find(in, "weight"), find(in, "gate"), kRmsEps)}};
  };
  result.definition = [](const NamedTensors& in) -> NamedTensors {
    const Tensor gate = find(in, "gate"), gated = find(in, "x") * gate * logistic(gate);
    return {{"y", rms_normalised({{"x", gated}, {"weight", find(in, "weight")}})}};
  };
  return result;
}

OperatorCase gated_rms_norm_case(const std::string& activation, const std::string& serves) {
  OperatorCase result = norm_case("gated_rms_norm/" + activation, serves, 8, kernels::gated_rms_norm_implementations());
  result.inputs = [](const Workload& w, uint64_t seed) { return make_inputs(w, seed, true, true); };
  result.run = [activation](Implementation implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::gated_rms_norm(find(in, "x"), find(in, "weight"), find(in, "gate"), activation, kRmsEps,
                                          implementation)}};
  };
  result.definition = [activation](const NamedTensors& in) -> NamedTensors {
    const Tensor gate = find(in, "gate"), y = rms_normalised(in);
    if (activation == "none") return {{"y", y}};
    return {{"y", y * logistic(gate) * (activation == "swish" ? gate : at::ones_like(gate))}};
  };
  return result;
}

}  // namespace

std::vector<OperatorCase> norm_cases() {
  return {l2norm_case(),
          rms_norm_case(),
          gated_rms_norm_case("sigmoid", "KDA"),
          gated_rms_norm_case("swish", "GDN"),
          gated_rms_norm_case("none", "KDA without an output gate"),
          rms_norm_of_gated_case()};
}

}  // namespace klab
