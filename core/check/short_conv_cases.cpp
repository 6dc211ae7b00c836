// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "core/check/inputs.h"
#include "kernels/short_conv/short_conv.h"

namespace klab {
namespace {

using kernels::Implementation;
using kernels::ShortConvInputs;
using kernels::ShortConvOutputs;

constexpr int64_t kTaps = 4;

NamedTensors make_inputs(const Workload& w, uint64_t seed) {
  at::Generator generator = seeded_generator(seed);
  const int64_t D = w.H * w.K;
  NamedTensors in{{"x", normal({w.B, w.T, D}, generator)},
                  {"weight", uniform({D, kTaps}, -0.5, 0.5, generator)},
                  {"bias", normal({D}, generator)}};
  if (w.initial_state) in.push_back({"initial_state", normal({w.sequences(), kTaps - 1, D}, generator)});
  if (!w.offsets.empty()) in.push_back({"cu_seqlens", at::tensor(w.offsets, at::kLong)});
  return in;
}

NamedTensors run(Implementation implementation, const std::string& activation, const NamedTensors& in) {
  const ShortConvInputs inputs{find(in, "x"), find(in, "weight"),        find(in, "bias"),
                               activation,    find(in, "initial_state"), find(in, "cu_seqlens")};
  const ShortConvOutputs out = short_conv(inputs, implementation);
  return {{"y", out.y}, {"final_state", out.final_state}};
}

OperatorCase make_case(const std::string& name, const std::string& activation) {
  OperatorCase result;
  result.name = name;
  result.serves = "KDA, GDN, Mamba2";
  for (const Implementation implementation : kernels::short_conv_implementations()) {
    const bool cuda = implementation == Implementation::cuda;
    result.forms.push_back({.implementation = implementation,
                            .in_float64 = !cuda && implementation != Implementation::cpu,
                            .on_cpu = !cuda,
                            .is_definition = implementation == Implementation::reference});
  }
  result.workloads = {
      {"one token", 2, 1, 1, 1, 8, 8, true, Gates::ordinary, true},
      {"odd sizes", 2, 63, 3, 3, 20, 20, true},
      {"one past a chunk", 1, 65, 1, 1, 100, 100, false, Gates::ordinary, true},
      {"long", 1, 1000, 1, 1, 64, 64},
      {"packed", 1, 165, 1, 1, 16, 16, true, Gates::ordinary, true, {0, 2, 3, 100, 165}},
  };
  result.benches = {{"T=4096 D=2048", 1, 4096, 16, 16, 128, 128}};
  result.sums_in_own_dtype = true;
  result.inputs = make_inputs;
  result.run = [activation](Implementation implementation, const NamedTensors& in) {
    return run(implementation, activation, in);
  };
  result.definition = [activation](const NamedTensors& in) { return run(Implementation::reference, activation, in); };
  result.terms = [](const Workload& w, std::string_view tensor) {
    return tensor == "d_weight" || tensor == "d_bias" ? w.B * w.T : kTaps + 1;
  };
  result.flops = [](const Workload& w) { return static_cast<double>(w.B * w.T * w.H * w.K * 2 * kTaps); };
  return result;
}

}  // namespace

std::vector<OperatorCase> short_conv_cases() {
  return {make_case("short_conv", ""), make_case("short_conv/silu", "silu")};
}

}  // namespace klab
