// SPDX-License-Identifier: Apache-2.0
// The operators of `klab check`, `klab bench` and the tests, as data: definition, implementations, inputs and cost of
// each operator.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/common/implementation.h"

namespace klab {

struct NamedTensor {
  std::string name;
  at::Tensor tensor;
};

using NamedTensors = std::vector<NamedTensor>;

/// The tensor of that name, or an undefined tensor.
at::Tensor find(const NamedTensors& tensors, std::string_view name);

/// The distribution of the log-decays of a workload.
enum class Gates {
  ordinary,   ///< half-lives of a few to a few hundred tokens
  strong,     ///< -5 at every token: dividing by the decay of a chunk of 64 would need exp(320)
  saturated,  ///< either -5 or 0
  resets,     ///< ordinary, with -1000 in some single channels and some whole tokens
  blocked,    ///< the same with -infinity
};

/// The shape and kind of one call. Operators without heads have width H * K, norms width K.
struct Workload {
  std::string name;
  int64_t B = 1, T = 1, H = 1, HV = 1, K = 1, V = 1;
  bool quick = false;  ///< belongs to the quick subset of the matrix
  Gates gates = Gates::ordinary;
  bool initial_state = false;
  std::vector<int64_t> offsets{};  ///< cu_seqlens of packed sequences (B = 1)
  /// For timing: every call has different inputs that are not in any cache, as in the decode of a model with many
  /// layers. A recurrence updates its states in place.
  bool cold_states = false;
  int64_t past = 0;  ///< cached tokens before the T of an attention
  int64_t sequences() const { return offsets.empty() ? B : static_cast<int64_t>(offsets.size()) - 1; }
};

/// An implementation of an operator, and which inputs it supports.
struct Form {
  kernels::Implementation implementation;
  bool differentiable = true;
  /// Whether a differentiable form has a backward pass for these inputs. Absent: for all.
  std::function<bool(at::ScalarType dtype, const Workload& workload)> has_backward{};
  bool in_float64 = true;
  bool on_cpu = true;
  bool narrow_operands = false;  ///< operands of products have the dtype of the call (tensor cores)
  bool is_definition = false;    ///< the same code as `definition`, so not checked in float64
};

struct OperatorCase {
  std::string name;    ///< "recurrence/channel/delta"
  std::string serves;  ///< the mixers that use it
  std::vector<Form> forms;
  std::vector<Workload> workloads;  ///< for checking
  std::vector<Workload> benches;    ///< large calls, for timing
  /// Inputs and outputs that have the accumulation dtype in calls of any dtype.
  std::vector<std::string> wide{};
  bool sums_in_own_dtype = false;  ///< sums are rounded to the dtype of the call, else to the accumulation dtype
  double amplification = 1;        ///< as in Arithmetic

  /// Inputs in float64 on the CPU, reproducible for a given seed.
  std::function<NamedTensors(const Workload&, uint64_t seed)> inputs;
  std::function<NamedTensors(kernels::Implementation, const NamedTensors& inputs)> run;
  /// The expected result of `run`, in the dtype of the inputs; differentiable.
  std::function<NamedTensors(const NamedTensors& inputs)> definition;
  /// The longest chain of additions in the computation of an output or a gradient ("d_q").
  std::function<int64_t(const Workload&, std::string_view tensor)> terms;
  /// FLOPs of one forward call. For recurrences equation 13 of arXiv 2510.26692 with the CPU kernels' chunks of 16 (for
  /// one token, those of a step), the same for all implementations, so that their rates can be compared.
  std::function<double(const Workload&)> flops;
};

/// All operators.
const std::vector<OperatorCase>& operator_cases();

/// The dtype of states and accumulators: float64 for float64, else float32.
at::ScalarType accumulation_type(at::ScalarType dtype);

/// The dtype of that input, output or gradient ("d_q") when the operator is called in `dtype`.
at::ScalarType dtype_in(const OperatorCase& operator_case, std::string_view tensor, at::ScalarType dtype);

/// Copies on `device` in the dtypes of a call in `dtype`; integers (offsets) keep their dtype.
NamedTensors copy_as(const OperatorCase& operator_case, const NamedTensors& tensors, at::ScalarType dtype,
                     at::Device device);

/// The minimum of bytes that a call must move: every input read once, every output written once.
double bytes_moved(const NamedTensors& inputs, const NamedTensors& outputs);

/// The parts of operator_cases(), each in its own file.
std::vector<OperatorCase> recurrence_cases();
std::vector<OperatorCase> short_conv_cases();
std::vector<OperatorCase> norm_cases();
std::vector<OperatorCase> kda_gate_cases();
std::vector<OperatorCase> swiglu_cases();
std::vector<OperatorCase> attention_cases();
std::vector<OperatorCase> linear_cases();

}  // namespace klab
