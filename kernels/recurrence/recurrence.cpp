// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/recurrence.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/operator.h"
#include "kernels/common/packing.h"
#include "kernels/kda_gate/kda_gate.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence_arguments.h"
#include "kernels/recurrence/recurrence_forms.h"
#include "kernels/recurrence/recurrence_fused.h"

namespace klab::kernels {
namespace {

constexpr const char* kOp = "recurrence";
constexpr double kL2Eps = 1e-6;

void check_overwritten(const RecurrenceInputs& in) {
  const at::Tensor& state = in.initial_state;
  TORCH_CHECK_VALUE(
      state.defined() && state.is_contiguous() && state.scalar_type() == accumulation_type(in.v.scalar_type()), kOp,
      ": overwrite_state needs a contiguous initial_state in ", accumulation_type(in.v.scalar_type()));
  TORCH_CHECK_VALUE(!records_gradient(in), kOp,
                    ": overwrite_state overwrites a tensor that the backward pass reads; disable gradients");
}

// The number of sequences. Offsets in device memory are not read, because that would synchronise with the device.
int64_t count_sequences(const RecurrenceInputs& in) {
  if (!in.cu_seqlens.defined()) return in.q.size(0);
  if (in.cu_seqlens.is_cpu()) {
    return static_cast<int64_t>(sequence_offsets(kOp, in.cu_seqlens, in.q.size(0), in.q.size(1)).size()) - 1;
  }
  check_sequence_offsets(kOp, in.cu_seqlens, in.q.size(0));
  return in.cu_seqlens.size(0) - 1;
}

void check_sizes(const RecurrenceInputs& in, const Sizes& sizes) {
  const int64_t B = sizes[Size::B], T = sizes[Size::T], K = sizes[Size::K], V = sizes[Size::V];
  const int64_t H = sizes[Size::H], HV = sizes[Size::HV];
  TORCH_CHECK_VALUE(B >= 1 && T >= 1, kOp, ": needs at least one token, but q has shape ", in.q.sizes());
  TORCH_CHECK_VALUE(K >= 1 && K <= kMaxHeadDim && V >= 1 && V <= kMaxHeadDim, kOp, ": K = ", K, " and V = ", V,
                    ", but both must lie in 1..", kMaxHeadDim);
  TORCH_CHECK_VALUE(H >= 1 && HV >= H && HV % H == 0, kOp, ": v has ", HV, " heads, which must be a multiple of the ",
                    H, " heads of q and k");
  if (in.initial_state.defined()) {
    check_tensor(kOp, "initial_state", in.initial_state, {count_sequences(in), HV, K, V}, in.q);
  } else {
    count_sequences(in);
  }
}

// Checks combinations of arguments that exclude or require each other.
void check_combination(const RecurrenceInputs& in) {
  TORCH_CHECK_VALUE(in.a.defined() == in.b.defined(), kOp, ": a and b must be given together, but only ",
                    in.a.defined() ? "a" : "b", " is given");
  TORCH_CHECK_VALUE(!(in.a.defined() && in.beta.defined()), kOp, ": beta (delta rule) excludes a and b (DPLR)");
  TORCH_CHECK_VALUE(!in.output_all_states || (!in.cu_seqlens.defined() && !in.overwrite_state && !records_gradient(in)),
                    kOp, ": output_all_states excludes packed sequences, overwrite_state and gradients");
  TORCH_CHECK_VALUE(!in.output_all_states || in.writes == 1, kOp, ": output_all_states needs writes = 1");
  TORCH_CHECK_VALUE(!in.gate || in.g.defined(), kOp, ": a gate needs g, the raw input that it acts on");
  TORCH_CHECK_VALUE(!in.beta_sigmoid || in.beta.defined(), kOp, ": beta_sigmoid is given, but beta is missing");
  TORCH_CHECK_VALUE(!in.allow_neg_eigval || in.beta_sigmoid, kOp,
                    ": allow_neg_eigval doubles the sigmoid of beta and needs beta_sigmoid");
}

void check(const RecurrenceInputs& in) {
  TORCH_CHECK_VALUE(in.q.defined(), kOp, ": q is missing");
  TORCH_CHECK_VALUE(in.writes >= 1, kOp, ": writes is ", in.writes, ", but must be at least 1");
  Sizes known;
  if (in.q.dim() == 4) known.set(Size::TW, in.q.size(1) * in.writes);
  check_sizes(in, check_arguments(kOp, in, known));
  check_combination(in);
  if (in.overwrite_state) check_overwritten(in);
  if (in.gate) check_kda_gate(kOp, in.g, in.gate->A_log, in.gate->dt_bias, in.gate->lower_bound);
}

PreparedInputs prepare(const RecurrenceInputs& in, const std::vector<int64_t>& offsets, int64_t sequences) {
  const at::ScalarType dtype = accumulation_type(in.v.scalar_type());
  const int64_t HV = in.v.size(2), K = in.q.size(3), V = in.v.size(3);
  PreparedInputs out = in;
  each_tensor(out, [&](const TensorArgument& argument, at::Tensor& x) {
    if (!x.defined() || !argument.is_rows()) return;
    x = composed_rows(x, dtype, offsets, HV);
  });
  out.q = out.q * in.scale.value_or(1.0 / std::sqrt(static_cast<double>(K)));
  out.initial_state =
      in.initial_state.defined() ? in.initial_state.to(dtype) : at::zeros({sequences, HV, K, V}, out.v.options());
  return out;
}

Implementation choose(const RecurrenceInputs& in, Implementation requested, bool with_backward) {
  const UnsupportedReasons unsupported{recurrence_cuda_unsupported_reason(in, with_backward),
                                       recurrence_cpu_unsupported_reason(in)};
  // The chunk form would only pad a single token.
  const bool step = in.q.size(1) == 1;
  return choose_implementation(kOp, requested, in.v, unsupported,
                               {step ? Implementation::reference : Implementation::chunk,
                                step ? Implementation::chunk : Implementation::reference});
}

const FusedRecurrence* fused_recurrence(Implementation implementation) {
  return kernels_of(implementation, cpu_recurrence, cuda_recurrence);
}

// x [B, T, ..] as the `at`th of `writes` rows per token, the others zero: [B, TW, ..].
at::Tensor spread(const at::Tensor& x, int64_t writes, int64_t at) {
  if (!x.defined()) return x;
  std::vector<int64_t> padding(static_cast<size_t>(2 * (x.dim() - 1)), 0);  // from the last dimension to that of writes
  *(padding.end() - 2) = at;
  padding.back() = writes - 1 - at;
  return at::constant_pad_nd(x.unsqueeze(2), padding).flatten(1, 2);
}

// The inputs with a log-decay in place of the raw input of a gate.
RecurrenceInputs with_log_decay(RecurrenceInputs in) {
  if (!in.gate) return in;
  const at::Tensor raw = in.g.to(accumulation_type(in.v.scalar_type()));
  in.g = kda_gate(raw, in.gate->A_log, in.gate->dt_bias, in.gate->lower_bound, Implementation::reference);
  in.gate = std::nullopt;
  return in;
}

// Inputs without a gate with a token for each write: it does not decay but for the first of a token's writes, and all
// but the last read with a query of zeros.
RecurrenceInputs token_per_write(RecurrenceInputs in) {
  in.q = spread(in.q, in.writes, in.writes - 1);
  in.g = spread(in.g, in.writes, 0);
  if (in.cu_seqlens.defined()) in.cu_seqlens = in.cu_seqlens * in.writes;
  in.writes = 1;
  return in;
}

// The outputs of the last of each token's writes.
at::Tensor of_tokens(const at::Tensor& o, int64_t writes) {
  return o.unflatten(1, {o.size(1) / writes, writes}).select(2, writes - 1);
}

RecurrenceOutputs run_composed(const RecurrenceInputs& in, Implementation form) {
  if (in.writes > 1) {
    RecurrenceOutputs out = run_composed(token_per_write(activated(in)), form);
    out.o = of_tokens(out.o, in.writes);
    return out;
  }
  const std::vector<int64_t> offsets = sequence_offsets(kOp, in.cu_seqlens, in.q.size(0), in.q.size(1));
  const int64_t sequences = offsets.empty() ? in.q.size(0) : static_cast<int64_t>(offsets.size()) - 1;
  const PreparedInputs prepared = prepare(activated(in), offsets, sequences);
  RecurrenceOutputs out =
      form == Implementation::reference ? recurrence_reference(prepared) : recurrence_chunk(prepared);
  if (!offsets.empty()) out.o = pack(out.o, offsets);
  out.o = out.o.to(in.v.scalar_type());
  if (in.overwrite_state) {
    in.initial_state.copy_(out.final_state);
    out.final_state = in.initial_state;
  }
  return out;
}

// The state after every token, with one call per token, for implementations without a kernel for it.
RecurrenceOutputs token_by_token(const RecurrenceInputs& in, Implementation implementation) {
  std::vector<at::Tensor> o, states;
  RecurrenceInputs token = in;
  for (int64_t t = 0; t < in.q.size(1); ++t) {
    const at::Tensor state = token.initial_state;
    token = tokens_of(in, t, 1);
    token.output_all_states = false;
    token.initial_state = state;
    const RecurrenceOutputs out = recurrence(token, implementation);
    o.push_back(out.o);
    states.push_back(token.initial_state = out.final_state);
  }
  return {at::cat(o, 1), states.back(), at::stack(states, 1)};
}

// Only the CPU kernels take several writes per token.
bool runs_per_write(const RecurrenceInputs& in, const FusedRecurrence* kernels) {
  return in.writes > 1 && kernels == &cuda_recurrence;
}

// As recurrence(). Below autograd it also fills `kept`, unless it is null or the implementation stores nothing.
RecurrenceOutputs run(const RecurrenceInputs& in, Implementation requested, RecurrenceKept* kept);

// --- The operators klab::recurrence, klab::recurrence_backward and klab::recurrence_all_states --------------------

struct RecurrenceOperator {
  using Inputs = RecurrenceInputs;
  static constexpr const char* kName = kOp;
  static constexpr std::array kOutputs = {"o", "final_state"};
  static constexpr std::array kKept = {"corrections", "states"};
  static constexpr const char* kDerivatives =
      "differentiable once; second derivatives are those of the C++ implementations 'chunk' and 'reference'";

  static Tensors forward(const Inputs& in, Implementation implementation, bool keep) {
    RecurrenceKept kept;
    const RecurrenceOutputs out = run(in, implementation, keep ? &kept : nullptr);
    return {out.o, out.final_state, or_empty(kept.corrections, in.v), or_empty(kept.states, in.v)};
  }

  static Tensors shapes(const Inputs& in, Implementation implementation, bool keep) {
    const RecurrenceKept kept =
        keep && may_keep(in, implementation) ? recurrence_cpu_kept_shapes(in) : RecurrenceKept{};
    return {output_shape(in), state_shape(in, /*all=*/false), or_empty(kept.corrections, in.v),
            or_empty(kept.states, in.v)};
  }

  static bool keeps(const Inputs& in, Implementation implementation) {
    return may_keep(in, implementation) && recurrence_cpu_unsupported_reason(in).empty();
  }

  static std::optional<Inputs> backward(const Inputs& in, Implementation implementation, at::TensorList given,
                                        at::TensorList d_outputs) {
    const FusedRecurrence* kernels = fused_recurrence(choose(in, implementation, /*with_backward=*/true));
    if (kernels == nullptr || runs_per_write(in, kernels)) return std::nullopt;
    RecurrenceKept kept{given[0], given[1]};
    if (kernels == &cpu_recurrence && kept.states.numel() == 0) kernels->forward(in, &kept);  // with keep=False
    const at::Tensor d_o = d_outputs[0].defined() ? d_outputs[0] : at::zeros_like(output_shape(in), in.v.options());
    return kernels->backward(in, kept, d_o, d_outputs[1]);
  }

  // [B, T, HV, V], without data.
  static at::Tensor output_shape(const Inputs& in) {
    std::vector<c10::SymInt> shape = in.v.sym_sizes().vec();
    shape[1] = in.q.sym_size(1);
    return at::empty_symint(shape, in.v.options());
  }

  // [N, HV, K, V], or [B, T, HV, K, V].
  static at::Tensor state_shape(const Inputs& in, bool all) {
    const bool packed = in.cu_seqlens.defined();
    const c10::SymInt N = packed ? in.cu_seqlens.sym_size(0) - 1 : in.q.sym_size(0);
    std::vector<c10::SymInt> shape{N, in.v.sym_size(2), in.q.sym_size(3), in.v.sym_size(3)};
    if (all) shape.insert(shape.begin() + 1, in.q.sym_size(1));
    return at::empty_symint(shape, in.v.options().dtype(accumulation_type(in.v.scalar_type())));
  }

 private:
  // Only the CPU kernels store something. The device is not checked: that of a meta tensor is unknown.
  static bool may_keep(const Inputs& in, Implementation implementation) {
    bool takes = implementation == Implementation::automatic || implementation == Implementation::cpu;
    each_tensor(in, [&](const TensorArgument& argument, const at::Tensor& x) {
      if (argument.role != Role::parameter && x.defined()) takes = takes && x.scalar_type() != at::kDouble;
    });
    return takes;
  }
};

struct RecurrenceAllStatesOperator {
  using Inputs = RecurrenceInputs;
  static constexpr const char* kName = "recurrence_all_states";
  static constexpr std::array kOutputs = {"o", "all_states"};
  static constexpr std::array<const char*, 0> kKept{};
  static constexpr const char* kDerivatives = "not differentiable";

  static Tensors forward(Inputs in, Implementation implementation, bool) {
    in.output_all_states = true;
    const RecurrenceOutputs out = run(in, implementation, nullptr);
    return {out.o, out.all_states};
  }

  static Tensors shapes(const Inputs& in, Implementation, bool) {
    return {RecurrenceOperator::output_shape(in), RecurrenceOperator::state_shape(in, /*all=*/true)};
  }
};

RecurrenceOutputs run(const RecurrenceInputs& in, Implementation requested, RecurrenceKept* kept) {
  check(in);
  const bool gradient = records_gradient(in);
  const Implementation chosen = choose(in, requested, gradient || kept != nullptr);
  if (in.output_all_states && chosen != Implementation::cuda) return token_by_token(in, requested);
  const FusedRecurrence* kernels = fused_recurrence(chosen);
  if (kernels == nullptr) return run_composed(in, chosen);
  if (runs_per_write(in, kernels)) {
    RecurrenceOutputs out = run(token_per_write(with_log_decay(in)), chosen, nullptr);
    out.o = of_tokens(out.o, in.writes).to(in.v.scalar_type());
    return out;
  }
  if (!gradient) return kernels->forward(in, kept);
  const Tensors results = call_operator<RecurrenceOperator>({in, chosen});
  return {results[0], results[1]};
}

}  // namespace

Decay RecurrenceInputs::decay() const {
  if (!g.defined()) return Decay::none;
  return g.dim() == 3 || (g.size(3) == 1 && q.size(3) != 1) ? Decay::scalar : Decay::channel;
}

Update RecurrenceInputs::update() const {
  if (a.defined()) return Update::dplr;
  return beta.defined() ? Update::delta : Update::accumulate;
}

RecurrenceInputs activated(RecurrenceInputs in) {
  const at::ScalarType wide = accumulation_type(in.v.scalar_type());
  if (in.qk_l2norm) {
    in.q = l2norm(in.q.to(wide), kL2Eps, Implementation::reference);
    in.k = l2norm(in.k.to(wide), kL2Eps, Implementation::reference);
  }
  if (in.beta_sigmoid) in.beta = (in.allow_neg_eigval ? 2.0 : 1.0) * at::sigmoid(in.beta.to(wide));
  in.qk_l2norm = in.beta_sigmoid = in.allow_neg_eigval = false;
  return with_log_decay(std::move(in));
}

RecurrenceInputs tokens_of(RecurrenceInputs in, int64_t first, int64_t count) {
  each_tensor(in, [&](const TensorArgument& argument, at::Tensor& x) {
    if (!argument.is_rows() || !x.defined()) return;
    const int64_t rows = argument.shape.sizes[1] == Size::TW ? in.writes : 1;
    x = x.narrow(1, first * rows, count * rows);
  });
  return in;
}

RecurrenceOutputs recurrence(const RecurrenceInputs& in, Implementation implementation) {
  return run(in, implementation, nullptr);
}

std::vector<Implementation> recurrence_implementations() {
  std::vector<Implementation> all{Implementation::reference, Implementation::chunk, Implementation::cpu};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels

TORCH_LIBRARY_FRAGMENT(klab, library) {
  klab::kernels::register_operator<klab::kernels::RecurrenceOperator>(library);
  klab::kernels::register_operator<klab::kernels::RecurrenceAllStatesOperator>(library);
}
