// SPDX-License-Identifier: Apache-2.0
// Cases of linear(), with weights of the inputs' dtype and with int8 weights, and of experts(). The definitions here
// are independent of the kernels.
#include "kernels/linear/linear.h"

#include <ATen/ATen.h>

#include <cmath>

#include "core/check/inputs.h"
#include "kernels/linear/experts.h"

namespace klab {
namespace {

using at::Tensor;
using kernels::Implementation;

// x has B * T rows; K is the width of x, V that of the result.
Workload product(const std::string& name, int64_t rows, int64_t K, int64_t N, bool quick) {
  return {name, 1, rows, 1, 1, K, N, quick};
}

// A call as in decode: with different weights each time, so that no weight is in a cache.
Workload decode(const std::string& name, int64_t rows, int64_t K, int64_t N) {
  Workload workload = product(name, rows, K, N, false);
  workload.cold_states = true;
  return workload;
}

double product_flops(const Workload& w) { return 2.0 * static_cast<double>(w.B * w.T * w.K * w.V); }

Tensor normal_weight(int64_t N, int64_t K, at::Generator& generator) {
  return normal({N, K}, generator) / std::sqrt(static_cast<double>(K));
}

// --- linear -------------------------------------------------------------------------------------------------------

OperatorCase linear_case(const std::string& name, const std::string& serves, bool differentiable) {
  OperatorCase result;
  result.name = name;
  result.serves = serves;
  result.forms = {{.implementation = Implementation::automatic, .differentiable = differentiable}};
  result.inputs = [](const Workload& w, uint64_t seed) -> NamedTensors {
    at::Generator generator = seeded_generator(seed);
    return {{"x", normal({w.B, w.T, w.K}, generator)}, {"weight", normal_weight(w.V, w.K, generator)}};
  };
  result.run = [](Implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::linear(find(in, "x"), find(in, "weight"))}};
  };
  result.definition = [](const NamedTensors& in) -> NamedTensors {
    return {{"y", (find(in, "x").unsqueeze(-2) * find(in, "weight")).sum(-1)}};
  };
  result.terms = [](const Workload& w, std::string_view tensor) {
    if (tensor == "d_weight") return w.B * w.T;
    return tensor == "d_x" ? w.V : w.K;
  };
  result.flops = product_flops;
  return result;
}

OperatorCase training_case() {
  OperatorCase result = linear_case("linear", "every projection", true);
  result.workloads = {product("one row", 1, 60, 40, true), product("odd sizes", 63, 37, 29, true),
                      product("one output", 70, 100, 1, true), product("many rows", 200, 160, 144, true)};
  result.benches = {product("4096 rows, 2048 x 2048", 4096, 2048, 2048, false)};
  return result;
}

// Few rows without gradients use klab's own kernel.
OperatorCase decoding_case() {
  OperatorCase result = linear_case("linear/few_rows", "every projection, decoding", false);
  result.workloads = {product("one row", 1, 60, 40, true), product("several rows", 7, 131, 70, true),
                      product("most rows", 31, 64, 33, true), product("long rows", 3, 9000, 18, false)};
  result.benches = {decode("1 row, 4096 x 4096", 1, 4096, 4096), decode("8 rows, 4096 x 4096", 8, 4096, 4096)};
  return result;
}

// int8 weights from kernels::quantise(). `many_rows`: the weight is converted to x's dtype, and products are rounded to
// it before scaling.
OperatorCase int8_case(const std::string& name, bool many_rows) {
  OperatorCase result = linear_case(name, "projections with int8 weights", false);
  result.forms.front().in_float64 = false;
  result.sums_in_own_dtype = many_rows;
  result.wide = {"scale"};
  result.inputs = [](const Workload& w, uint64_t seed) -> NamedTensors {
    at::Generator generator = seeded_generator(seed);
    const Tensor x = normal({w.B, w.T, w.K}, generator);
    const kernels::QuantisedWeight weight = kernels::quantise(normal_weight(w.V, w.K, generator));
    return {{"x", x}, {"weight", weight.values}, {"scale", weight.scale.to(at::kDouble)}};
  };
  result.run = [](Implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::linear(find(in, "x"), find(in, "weight"), find(in, "scale"))}};
  };
  result.definition = [](const NamedTensors& in) -> NamedTensors {
    const Tensor x = find(in, "x"), weight = find(in, "weight").to(x.scalar_type());
    return {{"y", (x.unsqueeze(-2) * weight).sum(-1) * find(in, "scale")}};
  };
  if (many_rows) {
    result.workloads = {product("odd sizes", 63, 37, 29, true), product("many rows", 200, 160, 144, true)};
    result.benches = {product("4096 rows, 2048 x 2048", 4096, 2048, 2048, false)};
  } else {
    result.workloads = {product("one row", 1, 60, 40, true), product("several rows", 7, 131, 70, true),
                        product("long rows", 3, 9000, 18, false)};
    result.benches = {decode("1 row, 4096 x 4096", 1, 4096, 4096)};
  }
  return result;
}

// --- The mixture of experts ---------------------------------------------------------------------------------------

// HV experts of width V for tokens of width K, H of them per token, and one shared expert.
Workload mixture(const std::string& name, int64_t tokens, int64_t experts, int64_t chosen, int64_t D, int64_t M,
                 bool quick) {
  return {name, 1, tokens, chosen, experts, D, M, quick};
}

NamedTensors expert_inputs(const Workload& w, uint64_t seed) {
  at::Generator generator = seeded_generator(seed);
  const auto weights = [&](int64_t N, int64_t K) {
    return normal({w.HV + 1, N, K}, generator) / std::sqrt(static_cast<double>(K));
  };
  const Tensor logits = normal({w.B * w.T, w.HV}, generator);
  const auto [values, ids] = logits.topk(w.H, -1);
  return {{"x", normal({w.B * w.T, w.K}, generator)},
          {"chosen", ids},
          {"weights", values.softmax(-1)},
          {"gate", weights(w.V, w.K)},
          {"up", weights(w.V, w.K)},
          {"down", weights(w.K, w.V)}};
}

NamedTensors run_experts(Implementation implementation, const NamedTensors& in) {
  const auto expert = [&](int64_t e) -> kernels::ExpertWeights {
    return {find(in, "gate")[e], find(in, "up")[e], find(in, "down")[e]};
  };
  const int64_t count = find(in, "gate").size(0) - 1;
  std::vector<kernels::ExpertWeights> experts;
  for (int64_t e = 0; e < count; ++e) experts.push_back(expert(e));
  const kernels::ExpertTable table(std::move(experts), expert(count));
  return {{"y", kernels::experts({find(in, "x"), find(in, "chosen"), find(in, "weights"), &table}, implementation)}};
}

// Computes every expert for every token, then selects the chosen ones.
NamedTensors experts_definition(const NamedTensors& in) {
  const Tensor x = find(in, "x"), chosen = find(in, "chosen"), weights = find(in, "weights");
  const auto times = [](const Tensor& rows, const Tensor& matrices) { return rows.matmul(matrices.transpose(1, 2)); };
  const Tensor gate = times(x.unsqueeze(0), find(in, "gate")), up = times(x.unsqueeze(0), find(in, "up"));
  const Tensor all = times(gate / (1 + (-gate).exp()) * up, find(in, "down"));  // [experts + 1, T, D]
  const int64_t count = all.size(0) - 1;
  const Tensor share =
      at::zeros({x.size(0), count}, weights.options()).scatter_add(1, chosen, weights);  // [T, experts]
  return {{"y", (share.t().unsqueeze(-1) * all.narrow(0, 0, count)).sum(0) + all[count]}};
}

OperatorCase experts_case() {
  OperatorCase result;
  result.name = "experts";
  result.serves = "mixtures of experts";
  for (const Implementation implementation : kernels::experts_implementations()) {
    const bool reference = implementation == Implementation::reference, cpu = implementation == Implementation::cpu;
    result.forms.push_back({.implementation = implementation,
                            .differentiable = reference,
                            .in_float64 = !cpu,
                            .narrow_operands = implementation == Implementation::composed});
    // No backward in 16-bit dtypes, where the gradients of weights are summed over the tokens in their own dtype.
    if (reference) {
      result.forms.back().has_backward = [](at::ScalarType dtype, const Workload&) {
        return dtype == at::kFloat || dtype == at::kDouble;
      };
    }
  }
  result.workloads = {mixture("one token", 1, 4, 2, 24, 20, true), mixture("odd sizes", 7, 5, 3, 37, 29, true),
                      mixture("many tokens", 60, 6, 2, 40, 48, true)};
  Workload token = mixture("1 token, 8 of 16 experts, 2048 x 768", 1, 16, 8, 2048, 768, false);
  token.cold_states = true;
  result.benches = {token, mixture("512 tokens, 8 of 16 experts, 2048 x 768", 512, 16, 8, 2048, 768, false)};
  result.inputs = expert_inputs;
  result.run = run_experts;
  result.definition = experts_definition;
  result.terms = [](const Workload& w, std::string_view tensor) {
    const bool of_weights = tensor == "d_gate" || tensor == "d_up" || tensor == "d_down";
    return w.K + w.V + w.H + (of_weights ? w.B * w.T : 0);
  };
  result.flops = [](const Workload& w) { return 6.0 * static_cast<double>(w.B * w.T * (w.H + 1) * w.K * w.V); };
  return result;
}

}  // namespace

std::vector<OperatorCase> linear_cases() {
  return {training_case(), decoding_case(), int8_case("linear/int8/few_rows", false),
          int8_case("linear/int8/many_rows", true), experts_case()};
}

}  // namespace klab
