// SPDX-License-Identifier: Apache-2.0
#include "core/check/cases.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace klab {

at::Tensor find(const NamedTensors& tensors, std::string_view name) {
  for (const NamedTensor& entry : tensors) {
    if (entry.name == name) return entry.tensor;
  }
  return {};
}

at::ScalarType accumulation_type(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

at::ScalarType dtype_in(const OperatorCase& operator_case, std::string_view tensor, at::ScalarType dtype) {
  if (tensor.starts_with("d_")) tensor.remove_prefix(2);
  const auto& wide = operator_case.wide;
  return std::find(wide.begin(), wide.end(), tensor) != wide.end() ? accumulation_type(dtype) : dtype;
}

NamedTensors copy_as(const OperatorCase& operator_case, const NamedTensors& tensors, at::ScalarType dtype,
                     at::Device device) {
  NamedTensors copies;
  for (const auto& [name, tensor] : tensors) {
    const at::ScalarType to = tensor.is_floating_point() ? dtype_in(operator_case, name, dtype) : tensor.scalar_type();
    copies.push_back({name, tensor.to(device, to, /*non_blocking=*/false, /*copy=*/true)});
  }
  return copies;
}

double bytes_moved(const NamedTensors& inputs, const NamedTensors& outputs) {
  double bytes = 0;
  for (const NamedTensors* list : {&inputs, &outputs}) {
    for (const NamedTensor& entry : *list) bytes += static_cast<double>(entry.tensor.nbytes());
  }
  return bytes;
}

const std::vector<OperatorCase>& operator_cases() {
  static const std::vector<OperatorCase> all = [] {
    std::vector<OperatorCase> cases;
    for (auto part : {recurrence_cases(), short_conv_cases(), norm_cases(), kda_gate_cases(), swiglu_cases(),
                      attention_cases(), linear_cases()}) {
      cases.insert(cases.end(), part.begin(), part.end());
    }
    return cases;
  }();
  return all;
}

}  // namespace klab
