#include "kernels/recurrence/recurrence.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/common/checks.h"
#include "kernels/common/cuda/backend.h"
#include "kernels/kda_gate/kda_gate.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/norms/norms.h"
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
  TORCH_CHECK_VALUE(!needs_gradient(in), kOp,
                    ": overwrite_state would lose what the backward pass needs; switch gradients off");
}

void check(const RecurrenceInputs& in, int64_t sequences) {
  const int64_t B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), K = in.q.size(3);
  check_tensor(kOp, "k", in.k, {B, T, H, K}, in.q);
  check_tensor(kOp, "v", in.v, {B, T, -1, -1}, in.q);
  const int64_t HV = in.v.size(2), V = in.v.size(3);
  TORCH_CHECK_VALUE(B >= 1 && T >= 1, kOp, ": needs at least one token, but q has shape ", in.q.sizes());
  TORCH_CHECK_VALUE(K >= 1 && K <= kMaxHeadDim && V >= 1 && V <= kMaxHeadDim, kOp, ": K = ", K, " and V = ", V,
                    ", but both must lie in 1..", kMaxHeadDim);
  TORCH_CHECK_VALUE(H >= 1 && HV >= H && HV % H == 0, kOp, ": v has ", HV, " heads, which must be a multiple of the ",
                    H, " heads of q and k");
  if (in.g.defined()) {
    if (in.g.dim() == 3) {
      check_tensor(kOp, "g", in.g, {B, T, HV}, in.q);
    } else {
      check_tensor(kOp, "g", in.g, {B, T, HV, K}, in.q);
    }
  }
  TORCH_CHECK_VALUE(in.a.defined() == in.b.defined(), kOp, ": a and b come together, but only ",
                    in.a.defined() ? "a" : "b", " is given");
  TORCH_CHECK_VALUE(!(in.a.defined() && in.beta.defined()), kOp, ": beta (delta rule) excludes a and b (DPLR)");
  if (in.beta.defined()) check_tensor(kOp, "beta", in.beta, {B, T, HV}, in.q);
  if (in.a.defined()) {
    check_tensor(kOp, "a", in.a, {B, T, HV, K}, in.q);
    check_tensor(kOp, "b", in.b, {B, T, HV, K}, in.q);
  }
  if (in.initial_state.defined()) check_tensor(kOp, "initial_state", in.initial_state, {sequences, HV, K, V}, in.q);
  if (in.overwrite_state) check_overwritten(in);
  TORCH_CHECK_VALUE(!in.output_all_states || (!in.cu_seqlens.defined() && !in.overwrite_state && !needs_gradient(in)), kOp,
                    ": all_states exclude packed sequences, overwrite_state and gradients");
  TORCH_CHECK_VALUE(!in.gate || in.g.defined(), kOp, ": a gate needs g, the raw input that it acts on");
  if (in.gate) check_kda_gate(kOp, in.g, in.gate->A_log, in.gate->dt_bias, in.gate->lower_bound);
  TORCH_CHECK_VALUE(!in.beta_sigmoid || in.beta.defined(), kOp, ": beta_sigmoid is given, but beta is missing");
  TORCH_CHECK_VALUE(!in.allow_neg_eigval || in.beta_sigmoid, kOp,
                    ": allow_neg_eigval doubles the sigmoid of beta and needs beta_sigmoid");
}

// Packed [1, T, ...] as padded [N, longest, ...]. Padding is zeros: k = v = beta = g = 0 leaves the state as it was.
// Memory grows with N x longest; the fused kernels walk the offsets instead.
at::Tensor unpack(const at::Tensor& x, const std::vector<int64_t>& offsets, int64_t longest) {
  std::vector<at::Tensor> rows;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t length = offsets[i + 1] - offsets[i];
    std::vector<int64_t> padding(static_cast<size_t>(2 * (x.dim() - 1)), 0);
    padding.back() = longest - length;  // constant_pad_nd counts from the last dimension: this is time
    rows.push_back(at::constant_pad_nd(x[0].narrow(0, offsets[i], length), padding));
  }
  return at::stack(rows);
}

at::Tensor pack(const at::Tensor& x, const std::vector<int64_t>& offsets) {
  std::vector<at::Tensor> rows;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    rows.push_back(x[static_cast<int64_t>(i)].narrow(0, 0, offsets[i + 1] - offsets[i]));
  }
  return at::cat(rows).unsqueeze(0);
}

PreparedInputs prepare(const RecurrenceInputs& in, const std::vector<int64_t>& offsets, int64_t sequences) {
  const at::ScalarType dtype = accumulation_type(in.v.scalar_type());
  const int64_t HV = in.v.size(2), group = HV / in.q.size(2), K = in.q.size(3), V = in.v.size(3);
  int64_t longest = 0;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) longest = std::max(longest, offsets[i + 1] - offsets[i]);
  const auto rows = [&](const at::Tensor& x) {
    if (!x.defined()) return x;
    const at::Tensor wide = x.to(dtype);
    return offsets.empty() ? wide : unpack(wide, offsets, longest);
  };
  const auto per_value_head = [&](const at::Tensor& x) { return group == 1 ? x : x.repeat_interleave(group, 2); };
  const auto column = [](const at::Tensor& x) { return x.defined() && x.dim() == 3 ? x.unsqueeze(-1) : x; };

  PreparedInputs out;
  out.q = per_value_head(rows(in.q)) * in.scale.value_or(1.0 / std::sqrt(static_cast<double>(K)));
  out.k = per_value_head(rows(in.k));
  out.v = rows(in.v);
  out.g = column(rows(in.g));
  out.beta = column(rows(in.beta));
  out.a = rows(in.a);
  out.b = rows(in.b);
  out.initial_state =
      in.initial_state.defined() ? in.initial_state.to(dtype) : at::zeros({sequences, HV, K, V}, out.v.options());
  return out;
}

Implementation choose(const RecurrenceInputs& in, Implementation wanted, bool with_backward) {
  const UnsupportedReasons unsupported_reason{recurrence_cuda_unsupported_reason(in, with_backward), recurrence_cpu_unsupported_reason(in)};
  // One token is one step: the chunk form would only pad it.
  const bool step = in.q.size(1) == 1;
  return choose_implementation(kOp, wanted, in.v, unsupported_reason,
                               {step ? Implementation::reference : Implementation::chunk,
                                step ? Implementation::chunk : Implementation::reference});
}

const FusedRecurrence* fused_form(Implementation implementation) {
  if (implementation == Implementation::cuda) return &cuda_recurrence;
  return implementation == Implementation::cpu ? &cpu_recurrence : nullptr;
}

// The number of sequences; their offsets are looked at only where that does not mean to wait for a device.
int64_t count_sequences(const RecurrenceInputs& in) {
  if (!in.cu_seqlens.defined()) return in.q.size(0);
  if (in.cu_seqlens.is_cpu()) {
    return static_cast<int64_t>(sequence_offsets(kOp, in.cu_seqlens, in.q.size(0), in.q.size(1)).size()) - 1;
  }
  check_sequence_offsets(kOp, in.cu_seqlens, in.q.size(0));
  return in.cu_seqlens.size(0) - 1;
}

RecurrenceOutputs run_composed(const RecurrenceInputs& in, Implementation form) {
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

// For implementations that keep no all_states: a call per token.
RecurrenceOutputs token_by_token(const RecurrenceInputs& in, Implementation implementation) {
  std::vector<at::Tensor> o, states;
  RecurrenceInputs token = in;
  token.output_all_states = false;
  const auto at_time = [](const at::Tensor& x, int64_t t) { return x.defined() ? x.narrow(1, t, 1) : x; };
  for (int64_t t = 0; t < in.q.size(1); ++t) {
    token.q = at_time(in.q, t);
    token.k = at_time(in.k, t);
    token.v = at_time(in.v, t);
    token.g = at_time(in.g, t);
    token.beta = at_time(in.beta, t);
    token.a = at_time(in.a, t);
    token.b = at_time(in.b, t);
    const RecurrenceOutputs out = recurrence(token, implementation);
    o.push_back(out.o);
    states.push_back(token.initial_state = out.final_state);
  }
  return {at::cat(o, 1), states.back(), at::stack(states, 1)};
}

void check(const RecurrenceInputs& in) {
  TORCH_CHECK_VALUE(in.q.defined(), kOp, ": q is missing");
  check_tensor(kOp, "q", in.q, {-1, -1, -1, -1}, in.q);
  check(in, count_sequences(in));
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
  if (in.gate) {
    in.g = kda_gate(in.g.to(wide), in.gate->A_log, in.gate->dt_bias, in.gate->lower_bound, Implementation::reference);
  }
  if (in.beta_sigmoid) in.beta = (in.allow_neg_eigval ? 2.0 : 1.0) * at::sigmoid(in.beta.to(wide));
  in.qk_l2norm = in.beta_sigmoid = in.allow_neg_eigval = false;
  in.gate = std::nullopt;
  return in;
}

const FusedRecurrence* fused_recurrence(const RecurrenceInputs& in, Implementation wanted, bool with_backward) {
  return fused_form(choose(in, wanted, with_backward));
}

RecurrenceOutputs recurrence(const RecurrenceInputs& in, Implementation implementation) {
  check(in);
  if (in.output_all_states && choose(in, implementation, false) != Implementation::cuda) {
    return token_by_token(in, implementation);
  }
  const Implementation chosen = choose(in, implementation, needs_gradient(in));
  const FusedRecurrence* fused = fused_form(chosen);
  return fused != nullptr ? run_fused(*fused, in) : run_composed(in, chosen);
}

RecurrenceOutputs recurrence(const RecurrenceInputs& in, Implementation implementation, RecurrenceKept* kept) {
  const at::NoGradGuard no_grad;
  check(in);
  const Implementation chosen = choose(in, implementation, kept != nullptr);
  const FusedRecurrence* fused = fused_form(chosen);
  return fused != nullptr ? fused->forward(in, kept) : run_composed(in, chosen);
}

std::vector<Implementation> recurrence_implementations() {
  std::vector<Implementation> all{Implementation::reference, Implementation::chunk, Implementation::cpu};
  if (cuda::available()) all.push_back(Implementation::cuda);
  return all;
}

}  // namespace klab::kernels
