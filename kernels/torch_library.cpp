// The operators as torch.ops.klab.*, for whoever loads this library into Python.
//
// Each operator is a pair of functions, forward and backward, that autograd does not look into; python/klab tells
// PyTorch how they belong together (and what shapes they give, for torch.compile). A backward without a kernel of its
// own computes the forward again, composed of ATen operators, and differentiates that.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/library.h>

#include "kernels/common/checks.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/recurrence.h"
#include "kernels/recurrence/recurrence_fused.h"
#include "kernels/short_conv/short_conv.h"

namespace klab::kernels {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;
using Tensors = std::vector<Tensor>;

Implementation implementation_of(const std::string& name) {
  using enum Implementation;
  for (const Implementation known : {automatic, reference, composed, chunk, cpu, cuda}) {
    if (to_string(known) == name) return known;
  }
  TORCH_CHECK_VALUE(false, "implementation '", name, "' is none of: automatic, reference, composed, chunk, cpu, cuda");
}

// Absent results: an operator's result is always a tensor.
Tensor or_empty(const Tensor& x, const Tensor& like) { return x.defined() ? x : at::empty({0}, like.options()); }

// Gradients of sum(outputs * d_outputs) for every defined input, composed and differentiated by autograd.
Tensors differentiate(const std::function<Tensors(const Tensors&)>& function, const Tensors& inputs,
                      const Tensors& d_outputs) {
  // Operators are called with autograd switched off; here it is wanted.
  c10::impl::LocalDispatchKeySet keys = c10::impl::tls_local_dispatch_key_set();
  keys.excluded_ = keys.excluded_ - c10::autograd_dispatch_keyset;
  const c10::impl::ForceDispatchKeyGuard with_autograd(keys);
  const at::AutoGradMode enable(true);
  Tensors leaves, wanted;
  for (const Tensor& input : inputs) {
    leaves.push_back(input.defined() ? input.detach().requires_grad_() : input);
    if (input.defined()) wanted.push_back(leaves.back());
  }
  const Tensors gradients = torch::autograd::grad(function(leaves), wanted, d_outputs, /*retain_graph=*/false,
                                                  /*create_graph=*/false, /*allow_unused=*/true);
  Tensors all;
  size_t next = 0;
  for (const Tensor& input : inputs) {
    if (!input.defined()) {
      all.emplace_back();
      continue;
    }
    const Tensor& gradient = gradients[next++];
    all.push_back(gradient.defined() ? gradient : at::zeros_like(input));
  }
  return all;
}

// --- The recurrence ---------------------------------------------------------------------------------------------

#define KLAB_RECURRENCE_ARGUMENTS                                                                                \
  const Tensor &q, const Tensor &k, const Tensor &v, const Optional &g, const Optional &beta, const Optional &a, \
      const Optional &b, const Optional &initial_state, const Optional &cu_seqlens, const Optional &A_log,       \
      const Optional &dt_bias, std::optional<double> scale, bool qk_l2norm, bool gate,                           \
      std::optional<double> lower_bound, bool beta_sigmoid, bool allow_neg_eigval, std::string implementation

RecurrenceInputs recurrence_inputs(KLAB_RECURRENCE_ARGUMENTS) {
  static_cast<void>(implementation);
  const auto defined = [](const Optional& x) { return x.value_or(Tensor()); };
  RecurrenceInputs in{.q = q,
                      .k = k,
                      .v = v,
                      .g = defined(g),
                      .beta = defined(beta),
                      .a = defined(a),
                      .b = defined(b),
                      .scale = scale,
                      .initial_state = defined(initial_state),
                      .cu_seqlens = defined(cu_seqlens)};
  in.qk_l2norm = qk_l2norm;
  if (gate) in.gate = RecurrenceGate{defined(A_log), defined(dt_bias), lower_bound};
  in.beta_sigmoid = beta_sigmoid;
  in.allow_neg_eigval = allow_neg_eigval;
  return in;
}

#define KLAB_RECURRENCE_INPUTS                                                                                 \
  recurrence_inputs(q, k, v, g, beta, a, b, initial_state, cu_seqlens, A_log, dt_bias, scale, qk_l2norm, gate, \
                    lower_bound, beta_sigmoid, allow_neg_eigval, implementation)

// (o, final_state, corrections, states): the last two are what the kernels keep for the backward pass, or empty.
std::tuple<Tensor, Tensor, Tensor, Tensor> recurrence_op(KLAB_RECURRENCE_ARGUMENTS, bool keep) {
  const at::NoGradGuard no_grad;
  const RecurrenceInputs in = KLAB_RECURRENCE_INPUTS;
  RecurrenceKept kept;
  const RecurrenceOutputs out = recurrence(in, implementation_of(implementation), keep ? &kept : nullptr);
  return {out.o, out.final_state, or_empty(kept.corrections, v), or_empty(kept.states, v)};
}

// (o, the state after each token).
std::tuple<Tensor, Tensor> recurrence_all_states_op(KLAB_RECURRENCE_ARGUMENTS) {
  const at::NoGradGuard no_grad;
  RecurrenceInputs in = KLAB_RECURRENCE_INPUTS;
  in.output_all_states = true;
  const RecurrenceOutputs out = recurrence(in, implementation_of(implementation));
  return {out.o, out.all_states};
}

// Gradients for q, k, v, g, beta, a, b, initial_state, A_log, dt_bias; empty where an input is absent.
Tensors recurrence_backward_op(const Tensor& d_o, const Tensor& d_final_state, const Tensor& corrections,
                               const Tensor& states, KLAB_RECURRENCE_ARGUMENTS) {
  const RecurrenceInputs in = KLAB_RECURRENCE_INPUTS;
  const auto tensors_of = [](const RecurrenceInputs& x) {
    const RecurrenceGate of_gate = x.gate.value_or(RecurrenceGate{});
    return Tensors{x.q, x.k, x.v, x.g, x.beta, x.a, x.b, x.initial_state, of_gate.A_log, of_gate.dt_bias};
  };
  Tensors gradients;
  const FusedRecurrence* fused = fused_recurrence(in, implementation_of(implementation), /*with_backward=*/true);
  if (fused == &cpu_recurrence && states.numel() == 0) fused = nullptr;  // the forward pass was told to keep nothing
  if (fused != nullptr) {
    const at::NoGradGuard no_grad;
    gradients = tensors_of(fused->backward(in, {corrections, states}, d_o, d_final_state));
  } else {
    const auto composed = [&](const Tensors& leaves) -> Tensors {
      RecurrenceInputs with_leaves = in;
      Tensor* const places[] = {&with_leaves.q,    &with_leaves.k, &with_leaves.v, &with_leaves.g,
                                &with_leaves.beta, &with_leaves.a, &with_leaves.b, &with_leaves.initial_state};
      for (size_t i = 0; i < std::size(places); ++i) *places[i] = leaves[i];
      if (with_leaves.gate) {
        with_leaves.gate->A_log = leaves[8];
        with_leaves.gate->dt_bias = leaves[9];
      }
      const RecurrenceOutputs out = recurrence(with_leaves, implementation_of(implementation));
      return {out.o, out.final_state};
    };
    gradients = differentiate(composed, tensors_of(in), {d_o, d_final_state});
  }
  for (Tensor& gradient : gradients) gradient = or_empty(gradient, v);
  return gradients;
}

// --- The short convolution --------------------------------------------------------------------------------------

ShortConvInputs short_conv_inputs(const Tensor& x, const Tensor& weight, const Optional& bias, std::string activation,
                                  const Optional& initial_state, const Optional& cu_seqlens) {
  return {
      x, weight, bias.value_or(Tensor()), activation, initial_state.value_or(Tensor()), cu_seqlens.value_or(Tensor())};
}

std::tuple<Tensor, Tensor> short_conv_op(const Tensor& x, const Tensor& weight, const Optional& bias,
                                         std::string activation, const Optional& initial_state,
                                         const Optional& cu_seqlens) {
  const at::NoGradGuard no_grad;
  const ShortConvOutputs out = short_conv(short_conv_inputs(x, weight, bias, activation, initial_state, cu_seqlens));
  return {out.y, out.final_state};
}

// Gradients for x, weight, bias, initial_state; empty where an input is absent.
Tensors short_conv_backward_op(const Tensor& d_y, const Tensor& d_final_state, const Tensor& x, const Tensor& weight,
                               const Optional& bias, std::string activation, const Optional& initial_state,
                               const Optional& cu_seqlens) {
  const ShortConvInputs in = short_conv_inputs(x, weight, bias, activation, initial_state, cu_seqlens);
  const auto function = [&](const Tensors& leaves) -> Tensors {
    const ShortConvOutputs out = short_conv({leaves[0], leaves[1], leaves[2], activation, leaves[3], in.cu_seqlens});
    return {out.y, out.final_state};
  };
  Tensors gradients = differentiate(function, {in.x, in.weight, in.bias, in.initial_state}, {d_y, d_final_state});
  for (Tensor& gradient : gradients) gradient = or_empty(gradient, x);
  return gradients;
}

// --- The gated norm ---------------------------------------------------------------------------------------------

Tensor gated_rms_norm_op(const Tensor& x, const Tensor& weight, const Tensor& gate, std::string activation,
                         double eps) {
  const at::NoGradGuard no_grad;
  return gated_rms_norm(x, weight, gate, activation, eps);
}

// Gradients for x, weight, gate.
Tensors gated_rms_norm_backward_op(const Tensor& d_y, const Tensor& x, const Tensor& weight, const Tensor& gate,
                                   std::string activation, double eps) {
  const auto function = [&](const Tensors& leaves) -> Tensors {
    return {gated_rms_norm(leaves[0], leaves[1], leaves[2], activation, eps)};
  };
  return differentiate(function, {x, weight, gate}, {d_y});
}

// --- Latent attention -------------------------------------------------------------------------------------------

Tensor latent_attention_op(const Tensor& q, const Tensor& cache, int64_t value_dim, double scale) {
  const at::NoGradGuard no_grad;
  return latent_attention({q, cache, value_dim, scale});
}

constexpr const char* kRecurrenceSchema =
    "Tensor q, Tensor k, Tensor v, Tensor? g, Tensor? beta, Tensor? a, Tensor? b, Tensor? initial_state, "
    "Tensor? cu_seqlens, Tensor? A_log, Tensor? dt_bias, float? scale, bool qk_l2norm, bool gate, float? lower_bound, "
    "bool beta_sigmoid, bool allow_neg_eigval, str implementation";
constexpr const char* kShortConvSchema =
    "Tensor x, Tensor weight, Tensor? bias, str activation, Tensor? initial_state, Tensor? cu_seqlens";
constexpr const char* kGatedRmsNormSchema = "Tensor x, Tensor weight, Tensor gate, str activation, float eps";

}  // namespace
}  // namespace klab::kernels

TORCH_LIBRARY(klab, m) {
  using namespace klab::kernels;
  const auto define = [&](const std::string& name, const std::string& arguments, const std::string& results) {
    m.def((name + "(" + arguments + ") -> " + results).c_str());
  };
  const std::string recurrence = kRecurrenceSchema, conv = kShortConvSchema, norm = kGatedRmsNormSchema;
  define("recurrence", recurrence + ", bool keep", "(Tensor o, Tensor final_state, Tensor corrections, Tensor states)");
  define("recurrence_all_states", recurrence, "(Tensor o, Tensor states)");
  define("recurrence_backward", "Tensor d_o, Tensor d_final_state, Tensor corrections, Tensor states, " + recurrence,
         "Tensor[]");
  define("short_conv", conv, "(Tensor y, Tensor final_state)");
  define("short_conv_backward", "Tensor d_y, Tensor d_final_state, " + conv, "Tensor[]");
  define("gated_rms_norm", norm, "Tensor");
  define("gated_rms_norm_backward", "Tensor d_y, " + norm, "Tensor[]");
  define("latent_attention", "Tensor q, Tensor cache, int value_dim, float scale", "Tensor");
}

namespace klab::kernels {
namespace {

void implement(torch::Library& m) {
  m.impl("recurrence", recurrence_op);
  m.impl("recurrence_all_states", recurrence_all_states_op);
  m.impl("recurrence_backward", recurrence_backward_op);
  m.impl("short_conv", short_conv_op);
  m.impl("short_conv_backward", short_conv_backward_op);
  m.impl("gated_rms_norm", gated_rms_norm_op);
  m.impl("gated_rms_norm_backward", gated_rms_norm_backward_op);
  m.impl("latent_attention", latent_attention_op);
}

}  // namespace
}  // namespace klab::kernels

TORCH_LIBRARY_IMPL(klab, CPU, m) { klab::kernels::implement(m); }
TORCH_LIBRARY_IMPL(klab, CUDA, m) { klab::kernels::implement(m); }
