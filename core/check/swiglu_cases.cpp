// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>

#include "core/check/inputs.h"
#include "kernels/swiglu/swiglu.h"

namespace klab {
namespace {

using kernels::Implementation;

NamedTensors make_inputs(const Workload& w, uint64_t seed) {
  at::Generator generator = seeded_generator(seed);
  const std::vector<int64_t> shape{w.B, w.T, w.K};
  const double size = w.gates == Gates::strong ? 10 : 2;
  return {{"gate", size * normal(shape, generator)}, {"up", normal(shape, generator)}};
}

OperatorCase swiglu_case() {
  OperatorCase result;
  result.name = "swiglu";
  result.serves = "every layer";
  result.forms = {{.implementation = Implementation::reference},
                  {.implementation = Implementation::cpu, .in_float64 = false}};
  result.workloads = {
      {"one row", 1, 1, 1, 1, 64, 64, true},
      {"odd sizes", 2, 63, 1, 1, 61, 61, true},
      {"several tasks", 1, 700, 1, 1, 300, 300},
      {"strong", 1, 65, 1, 1, 100, 100, true, Gates::strong},
  };
  result.benches = {{"T=8192 M=688", 1, 8192, 1, 1, 688, 688}};
  // The derivative has the term z (1 - s), in which z amplifies the rounding of s; for most values |z| is a few.
  result.amplification = 4;
  result.inputs = make_inputs;
  result.run = [](Implementation implementation, const NamedTensors& in) -> NamedTensors {
    return {{"y", kernels::swiglu(find(in, "gate"), find(in, "up"), implementation)}};
  };
  result.definition = [](const NamedTensors& in) -> NamedTensors {
    const at::Tensor gate = find(in, "gate");
    return {{"y", gate * at::log_sigmoid(gate).exp() * find(in, "up")}};
  };
  result.terms = [](const Workload&, std::string_view) { return 2; };
  result.flops = [](const Workload& w) { return 5 * static_cast<double>(w.B * w.T * w.K); };
  return result;
}

}  // namespace

std::vector<OperatorCase> swiglu_cases() { return {swiglu_case()}; }

}  // namespace klab
