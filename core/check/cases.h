// The operators that `klab check`, `klab bench` and the tests go through, as data: what each computes, which
// forms of it exist, on what inputs, and what one call costs.
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

/// The tensor of that name, undefined when there is none.
at::Tensor find(const NamedTensors& tensors, std::string_view name);

/// What the gates of a workload look like.
enum class Gates {
  ordinary,   ///< a few tokens to a few hundred of memory
  strong,     ///< log-decay -5 at every step: exp(320) over a chunk of 64, if one were to divide by it
  saturated,  ///< at either end of [-5, 0], nothing between
  resets,     ///< ordinary, with -1000 here and there: single channels and whole tokens
  blocked,    ///< the same with -infinity
};

/// The size and the kind of one call. Operators without heads see their width as H * K, norms only K.
struct Workload {
  std::string name;
  int64_t B = 1, T = 1, H = 1, HV = 1, K = 1, V = 1;
  bool quick = false;  ///< belongs to the quick subset of the matrix
  Gates gates = Gates::ordinary;
  bool initial_state = false;
  std::vector<int64_t> offsets{};  ///< of packed sequences, then B = 1
  /// For timing: each call gets other inputs, none of which are in a cache, as in a model of many layers that generates
  /// text. A recurrence overwrites its states.
  bool cold_states = false;
  int64_t past = 0;  ///< cached tokens before the T of an attention
  int64_t sequences() const { return offsets.empty() ? B : static_cast<int64_t>(offsets.size()) - 1; }
};

/// One way of computing an operator, and where it is defined.
struct Form {
  kernels::Implementation implementation;
  bool differentiable = true;
  /// Of a differentiable form: whether it is on these inputs. None: on all.
  std::function<bool(at::ScalarType dtype, const Workload& workload)> has_backward{};
  bool in_float64 = true;
  bool on_cpu = true;
  bool narrow_operands = false;  ///< products of factors in the dtype that it is called in: tensor cores
  bool is_definition = false;    ///< what the others are held to; a float64 cell would compare it with itself
};

struct OperatorCase {
  std::string name;    ///< "recurrence/channel/delta"
  std::string serves;  ///< the mixers that use it
  std::vector<Form> forms;
  std::vector<Workload> workloads;  ///< for checking
  std::vector<Workload> benches;    ///< big calls, for timing
  /// Inputs and outputs held in the accumulation dtype whatever dtype the operator is called in.
  std::vector<std::string> wide{};
  bool sums_in_own_dtype = false;  ///< else in the accumulation dtype
  double amplification = 1;        ///< as in Arithmetic

  /// Inputs in float64 on the CPU; the same seed gives the same numbers.
  std::function<NamedTensors(const Workload&, uint64_t seed)> inputs;
  std::function<NamedTensors(kernels::Implementation, const NamedTensors& inputs)> run;
  /// What `run` must compute, in the dtype of the inputs; differentiable.
  std::function<NamedTensors(const NamedTensors& inputs)> definition;
  /// The longest chain of additions behind an output or a gradient ("d_q").
  std::function<int64_t(const Workload&, std::string_view tensor)> terms;
  /// Floating-point operations of one forward call; for recurrences equation 13 of arXiv 2510.26692 with the
  /// CPU kernels' chunks of 16 (one token: a step), whichever form runs, so that times compare.
  std::function<double(const Workload&)> flops;
};

/// All of them.
const std::vector<OperatorCase>& operator_cases();

/// The dtype in which states are held and sums are formed: float64 for float64, else float32.
at::ScalarType accumulation_type(at::ScalarType dtype);

/// The dtype of that input, output or gradient ("d_q") when the operator is called in `dtype`.
at::ScalarType dtype_in(const OperatorCase& operator_case, std::string_view tensor, at::ScalarType dtype);

/// Copies on `device` as the operator takes them when called in `dtype`; integers (offsets) keep theirs.
NamedTensors copy_as(const OperatorCase& operator_case, const NamedTensors& tensors, at::ScalarType dtype,
                     at::Device device);

/// Bytes that a call cannot avoid to move: every input read once, every output written once.
double bytes_moved(const NamedTensors& inputs, const NamedTensors& outputs);

/// The parts of operator_cases(), each in its own file.
std::vector<OperatorCase> recurrence_cases();
std::vector<OperatorCase> short_conv_cases();
std::vector<OperatorCase> norm_cases();
std::vector<OperatorCase> kda_gate_cases();
std::vector<OperatorCase> attention_cases();
std::vector<OperatorCase> linear_cases();

}  // namespace klab
