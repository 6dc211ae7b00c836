// SPDX-License-Identifier: Apache-2.0
// Calls the CPU kernels of the recurrence on tensors.
#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/recurrence/cpu/recurrence.h"
#include "kernels/recurrence/recurrence_arguments.h"
#include "kernels/recurrence/recurrence_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

cpu::Problem problem(const RecurrenceInputs& in) {
  cpu::Problem p{};
  static_cast<RecurrenceProblem&>(p) = recurrence_problem(in);
  p.state_width = p.V;
  p.writes = in.writes;
  const int64_t B = in.q.size(0), T = in.q.size(1);
  std::vector<int64_t> offsets = sequence_offsets("recurrence", in.cu_seqlens, B, T);
  for (int64_t& offset : offsets) offset *= in.writes;
  p.sequences = sequences_of(B, T * in.writes, offsets);
  return p;
}

// The number of segments of all sequences; for packed sequences an upper bound from N and TW, because the shape of what
// is stored must not depend on the values of the offsets.
template <class Int>
Int most_segments(bool packed, const Int& sequences, const Int& TW) {
  if (packed) return (TW + sequences * (cpu::kSegment - 1)) / cpu::kSegment;
  return sequences * ((TW + (cpu::kSegment - 1)) / cpu::kSegment);
}

RecurrenceKept allocate_kept(const RecurrenceInputs& in, const cpu::Problem& p) {
  const auto float32 = in.v.options().dtype(at::kFloat);
  const int64_t segments = most_segments<int64_t>(in.cu_seqlens.defined(), p.count(), in.v.size(1));
  RecurrenceKept kept{p.update == Update::accumulate ? empty_result({0}, float32) : empty_result(in.v.sizes(), float32),
                      empty_result({segments, p.HV, cpu::padded_key(p.K) * cpu::padded_value(p.V)}, float32)};
  // Packed sequences may have fewer segments. The unused ones are still part of a result and must be deterministic.
  const int64_t used = cpu::segment_offsets(p.sequences).back();
  kept.states.narrow(0, used, segments - used).zero_();
  return kept;
}

// Up to this many tokens, token-by-token steps are faster than a chunk of 16.
constexpr int64_t kMostSteps = 8;

int64_t longest(const cpu::Problem& p) {
  int64_t length = 0;
  for (const cpu::Sequence& s : p.sequences) length = std::max(length, s.length);
  return length;
}

RecurrenceOutputs forward(const RecurrenceInputs& inputs, RecurrenceKept* kept) {
  const RecurrenceInputs in = with_plain_rows(inputs);
  const cpu::Problem p = problem(in);
  const auto float32 = in.v.options().dtype(at::kFloat);
  RecurrenceOutputs out{empty_result({in.q.size(0), in.q.size(1), p.HV, p.V}, in.v.options()),
                        in.overwrite_state ? in.initial_state : empty_result({p.count(), p.HV, p.K, p.V}, float32)};
  cpu::Kept buffers;
  if (kept != nullptr) {
    *kept = allocate_kept(in, p);
    buffers.corrections = floats(kept->corrections);
    buffers.states = floats(kept->states);
  }
  if (kept == nullptr && longest(p) <= kMostSteps) {
    cpu::step(p, mutable_rows_of(out.o), floats(out.final_state));
  } else {
    cpu::forward(p, mutable_rows_of(out.o), floats(out.final_state), buffers);
  }
  return out;
}

RecurrenceInputs backward(const RecurrenceInputs& inputs, const RecurrenceKept& kept, const Tensor& d_o,
                          const Tensor& d_final_state) {
  const RecurrenceInputs in = with_plain_rows(inputs);
  const cpu::Problem p = problem(in);
  const GradientTensors d = gradient_tensors(in, p.count(), empty_result);
  const Tensor d_o_rows = d_o.contiguous(), d_end = plain_float(d_final_state);
  cpu::backward(p, rows_of(d_o_rows), floats(d_end), {floats(kept.corrections), floats(kept.states)}, d.places);
  return finished_gradients(d.tensors, inputs, sum_rows);
}

}  // namespace

std::string recurrence_cpu_unsupported_reason(const RecurrenceInputs& in) {
  std::string reason;
  each_tensor(in, [&](const TensorArgument& argument, const Tensor& x) {
    const bool converted = argument.role == Role::offsets || argument.role == Role::parameter;
    if (reason.empty() && !converted) reason = cpu_unsupported_reason(x);
  });
  return reason;
}

RecurrenceKept recurrence_cpu_kept_shapes(const RecurrenceInputs& in) {
  const auto float32 = in.v.options().dtype(at::kFloat);
  const bool packed = in.cu_seqlens.defined();
  const c10::SymInt sequences = packed ? in.cu_seqlens.sym_size(0) - 1 : in.q.sym_size(0);
  const c10::SymInt segments = most_segments<c10::SymInt>(packed, sequences, in.v.sym_size(1));
  const auto width = [](const Tensor& x) { return x.sym_size(3).guard_int(__FILE__, __LINE__); };
  const c10::SymInt state = cpu::padded_key(width(in.q)) * cpu::padded_value(width(in.v));
  return {in.update() == Update::accumulate ? at::empty({0}, float32) : at::empty_symint(in.v.sym_sizes(), float32),
          at::empty_symint({segments, in.v.sym_size(2), state}, float32)};
}

const FusedRecurrence cpu_recurrence{forward, backward};

}  // namespace klab::kernels
