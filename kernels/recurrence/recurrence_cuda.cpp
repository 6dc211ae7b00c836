// SPDX-License-Identifier: Apache-2.0
// Calls the CUDA kernels of the recurrence on tensors. Nothing here synchronises with the device.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/recurrence/recurrence_arguments.h"
#include "kernels/recurrence/recurrence_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// Up to this many tokens per sequence, on average, token-by-token steps are faster than a chunk of 16.
constexpr int64_t kMostSteps = 8;

// Converts the inputs to the dtypes of the kernels: that of v for all operands, that or float32 for gates.
RecurrenceInputs plain(RecurrenceInputs in) {
  const at::ScalarType dtype = in.v.scalar_type();
  each_tensor(in, [&](const TensorArgument& argument, Tensor& x) {
    if (!x.defined() || x.scalar_type() == dtype) return;
    if (argument.role == Role::operand) x = x.to(dtype);
    if (argument.role == Role::gate) x = x.to(at::kFloat);
  });
  if (in.cu_seqlens.defined()) in.cu_seqlens = in.cu_seqlens.to(in.v.device(), at::kLong).contiguous();
  return with_plain_rows(std::move(in));
}

cuda::Problem problem(const RecurrenceInputs& in) {
  cuda::Problem p{};
  static_cast<RecurrenceProblem&>(p) = recurrence_problem(in);
  p.sequences = {in.q.size(0), in.q.size(1)};
  if (in.cu_seqlens.defined())
    p.sequences = {in.cu_seqlens.size(0) - 1, in.q.size(1), in.cu_seqlens.data_ptr<int64_t>()};
  return p;
}

// Whether the forward pass goes token by token.
bool takes_steps(const RecurrenceInputs& in) {
  const int64_t T = in.q.size(1), tokens = in.cu_seqlens.defined() ? T / (in.cu_seqlens.size(0) - 1) : T;
  return tokens <= kMostSteps || in.output_all_states;
}

// Smaller devices have less shared memory than the chunk kernels need (8.6 and 8.9: 99 KiB).
std::string missing_shared_memory(const RecurrenceInputs& in, bool with_backward) {
  if (takes_steps(in) && !with_backward) return "";
  const c10::OptionalDeviceGuard guard(in.v.device());
  const at::ScalarType type = in.v.scalar_type();
  const Dtype dtype = type == at::kFloat ? Dtype::float32 : type == at::kBFloat16 ? Dtype::bfloat16 : Dtype::float16;
  const size_t needed = cuda::backend().recurrence_shared_memory(dtype, in.update(), in.q.size(3), with_backward);
  const size_t offered = cuda::backend().recurrence_shared_memory_limit();
  if (needed <= offered) return "";
  return "its kernels for these inputs need " + std::to_string((needed + 1023) / 1024) +
         " KiB of shared memory per block and the device has " + std::to_string(offered / 1024);
}

Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) { return at::empty(shape, options); }

RecurrenceOutputs forward(const RecurrenceInputs& inputs, RecurrenceKept*) {
  const c10::OptionalDeviceGuard guard(inputs.v.device());
  const RecurrenceInputs in = plain(inputs);
  const cuda::Problem p = problem(in);
  const cuda::Backend& cuda = cuda::backend();
  const auto float32 = in.v.options().dtype(at::kFloat);
  RecurrenceOutputs out{
      at::empty(in.v.sizes(), in.v.options()),
      in.overwrite_state ? inputs.initial_state : at::empty({p.sequences.count, p.HV, p.K, p.V}, float32)};
  void* const stream = cuda.stream(in.v.device());
  if (in.output_all_states)
    out.all_states = at::empty({p.sequences.count, p.sequences.tokens, p.HV, p.K, p.V}, float32);
  if (takes_steps(in)) {
    cuda.recurrence_step(p, mutable_rows_of(out.o), floats(out.final_state), floats(out.all_states), stream);
  } else {
    const Tensor space = workspace(cuda.recurrence_forward_workspace(p), in.v);
    cuda.recurrence_forward(p, mutable_rows_of(out.o), floats(out.final_state), space.data_ptr(), stream);
  }
  return out;
}

Tensor sum_first(const Tensor& x) { return x.sum(0); }

RecurrenceInputs backward(const RecurrenceInputs& inputs, const RecurrenceKept&, const Tensor& d_o,
                          const Tensor& d_final_state) {
  const c10::OptionalDeviceGuard guard(inputs.v.device());
  const RecurrenceInputs in = plain(inputs);
  const cuda::Problem p = problem(in);
  const cuda::Backend& cuda = cuda::backend();
  const GradientTensors d = gradient_tensors(in, p.sequences.count, empty);
  const Tensor d_o_rows = d_o.to(in.v.scalar_type()).contiguous(), d_end = plain_float(d_final_state);
  const Tensor space = workspace(cuda.recurrence_backward_workspace(p), in.v);
  cuda.recurrence_backward(p, rows_of(d_o_rows), floats(d_end), d.places, space.data_ptr(), cuda.stream(in.v.device()));
  return finished_gradients(d.tensors, inputs, sum_first);
}

}  // namespace

std::string recurrence_cuda_unsupported_reason(const RecurrenceInputs& in, bool with_backward) {
  if (in.v.scalar_type() == at::kDouble) return "it computes in float32 and the tensors are float64";
  if (with_backward && in.v.scalar_type() == at::kFloat && in.q.size(3) > cuda::kWidestFloat32) {
    return "its backward pass takes keys of at most " + std::to_string(cuda::kWidestFloat32) + " channels in float32";
  }
  const std::string reason = cuda::backend().unsupported_reason(in.v.device());
  return reason.empty() ? missing_shared_memory(in, with_backward) : reason;
}

const FusedRecurrence cuda_recurrence{forward, backward};

}  // namespace klab::kernels
