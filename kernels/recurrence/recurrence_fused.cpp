#include "kernels/recurrence/recurrence_fused.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

double scale_of(const RecurrenceInputs& in) {
  return in.scale.value_or(1.0 / std::sqrt(static_cast<double>(in.q.size(3))));
}

Tensor as_input(const Tensor& gradient, const Tensor& input) {
  return gradient.defined() ? gradient.to(input.scalar_type()).view_as(input) : gradient;
}

// A query and key head's gradient is the sum over the value heads that read it.
Tensor sum_groups(const Tensor& gradient, const Tensor& input) {
  const int64_t H = input.size(2), group = gradient.size(2) / H;
  if (group == 1) return gradient.to(input.scalar_type());
  Tensor total = gradient.unflatten(2, {H, group}).select(3, 0).clone();
  for (int64_t i = 1; i < group; ++i) total += gradient.unflatten(2, {H, group}).select(3, i);
  return total.to(input.scalar_type());
}

class RecurrenceFunction : public torch::autograd::Function<RecurrenceFunction> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;
  using Argument = std::optional<Tensor>;

  static Argument argument(const Tensor& x) { return x.defined() ? Argument(x) : std::nullopt; }

  // The tensors again as arguments of their own: those are what autograd follows.
  static Tensors forward(Context* context, const FusedRecurrence* kernels, const RecurrenceInputs& in, const Argument&,
                         const Argument&, const Argument&, const Argument&, const Argument&, const Argument&,
                         const Argument&, const Argument&, const Argument&, const Argument&) {
    RecurrenceKept kept;
    const RecurrenceOutputs out = kernels->forward(in, &kept);
    const RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
    context->save_for_backward({in.q, in.k, in.v, in.g, in.beta, in.a, in.b, in.initial_state, in.cu_seqlens,
                                gate.A_log, gate.dt_bias, kept.corrections, kept.states});
    auto& data = context->saved_data;
    data["kernels"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(kernels));
    data["scale"] = scale_of(in);
    data["qk_l2norm"] = in.qk_l2norm;
    data["gate"] = in.gate.has_value();
    data["lower_bound"] = gate.lower_bound;
    data["beta_sigmoid"] = in.beta_sigmoid;
    data["allow_neg_eigval"] = in.allow_neg_eigval;
    return {out.o, out.final_state};
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    auto& data = context->saved_data;
    const auto* kernels = reinterpret_cast<const FusedRecurrence*>(static_cast<intptr_t>(data["kernels"].toInt()));
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(), "recurrence: the ", kernels->name,
                                " kernel is differentiable once; for second derivatives take the implementation "
                                "'chunk' or 'reference'");
    const Tensors saved = context->get_saved_variables();
    RecurrenceInputs in;
    in.q = saved[0];
    in.k = saved[1];
    in.v = saved[2];
    in.g = saved[3];
    in.beta = saved[4];
    in.a = saved[5];
    in.b = saved[6];
    in.initial_state = saved[7];
    in.cu_seqlens = saved[8];
    in.scale = data["scale"].toDouble();
    in.qk_l2norm = data["qk_l2norm"].toBool();
    if (data["gate"].toBool()) in.gate = RecurrenceGate{saved[9], saved[10], data["lower_bound"].toOptional<double>()};
    in.beta_sigmoid = data["beta_sigmoid"].toBool();
    in.allow_neg_eigval = data["allow_neg_eigval"].toBool();
    const Tensor d_o = d_out[0].defined() ? d_out[0] : at::zeros_like(in.v);
    const RecurrenceInputs d = kernels->backward(in, {saved[11], saved[12]}, d_o, d_out[1]);
    const RecurrenceGate d_gate = d.gate.value_or(RecurrenceGate{});
    return {Tensor(), Tensor(), d.q, d.k, d.v, d.g, d.beta, d.a, d.b, d.initial_state, d_gate.A_log, d_gate.dt_bias};
  }
};

}  // namespace

bool needs_gradient(const RecurrenceInputs& in) {
  const RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
  return needs_gradient({in.q, in.k, in.v, in.g, in.beta, in.a, in.b, in.initial_state, gate.A_log, gate.dt_bias});
}

RecurrenceOutputs run_fused(const FusedRecurrence& kernels, const RecurrenceInputs& in) {
  if (!needs_gradient(in)) return kernels.forward(in, nullptr);
  constexpr auto argument = RecurrenceFunction::argument;
  const RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
  const auto out = RecurrenceFunction::apply(&kernels, in, argument(in.q), argument(in.k), argument(in.v),
                                             argument(in.g), argument(in.beta), argument(in.a), argument(in.b),
                                             argument(in.initial_state), argument(gate.A_log), argument(gate.dt_bias));
  return {out[0], out[1]};
}

RecurrenceInputs with_plain_rows(RecurrenceInputs in) {
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.a, &in.b}) *x = with_plain_rows(*x);
  in.initial_state = plain_float(in.initial_state);
  if (in.gate) {
    in.gate->A_log = plain_float(in.gate->A_log);
    in.gate->dt_bias = plain_float(in.gate->dt_bias);
  }
  return in;
}

RecurrenceProblem recurrence_problem(const RecurrenceInputs& in) {
  RecurrenceProblem p{};
  p.decay = in.decay();
  p.update = in.update();
  p.H = in.q.size(2);
  p.HV = in.v.size(2);
  p.K = in.q.size(3);
  p.V = in.v.size(3);
  p.q = rows_of(in.q);
  p.k = rows_of(in.k);
  p.v = rows_of(in.v);
  p.g = rows_of(in.g);
  p.beta = rows_of(in.beta);
  p.a = rows_of(in.a);
  p.b = rows_of(in.b);
  p.scale = static_cast<float>(scale_of(in));
  p.initial_state = floats(in.initial_state);
  p.l2norm = in.qk_l2norm;
  if (in.gate) {
    p.gate = in.gate->lower_bound ? Gate::bounded : Gate::softplus;
    p.lower_bound = static_cast<float>(in.gate->lower_bound.value_or(0));
    p.A_log = floats(in.gate->A_log);
    p.dt_bias = floats(in.gate->dt_bias);
  }
  p.beta_sigmoid = in.beta_sigmoid;
  p.beta_factor = in.allow_neg_eigval ? 2.0f : 1.0f;
  return p;
}

GradientTensors gradient_tensors(const RecurrenceInputs& in, int64_t sequences,
                                 Tensor (*empty)(at::IntArrayRef shape, const at::TensorOptions& options)) {
  const auto float32 = in.v.options().dtype(at::kFloat);
  const int64_t HV = in.v.size(2), K = in.q.size(3), per_head = in.decay() == Decay::channel ? K : 1;
  const bool grouped = HV != in.q.size(2);
  const auto like = [&](const Tensor& x) { return x.defined() ? empty(x.sizes(), x.options()) : x; };
  const auto key_like = [&](const Tensor& x) {
    return grouped ? empty({x.size(0), x.size(1), HV, K}, float32) : like(x);
  };
  GradientTensors d;
  d.tensors.q = key_like(in.q);
  d.tensors.k = key_like(in.k);
  d.tensors.v = like(in.v);
  d.tensors.g = like(in.g);
  d.tensors.beta = like(in.beta);
  d.tensors.a = like(in.a);
  d.tensors.b = like(in.b);
  d.tensors.initial_state = like(in.initial_state);
  if (in.gate) {
    d.tensors.gate.emplace();
    if (in.gate->A_log.defined()) d.tensors.gate->A_log = empty({sequences, HV}, float32);
    if (in.gate->dt_bias.defined()) d.tensors.gate->dt_bias = empty({sequences, HV * per_head}, float32);
    d.places.A_log = floats(d.tensors.gate->A_log);
    d.places.dt_bias = floats(d.tensors.gate->dt_bias);
  }
  d.places.q = mutable_rows_of(d.tensors.q);
  d.places.k = mutable_rows_of(d.tensors.k);
  d.places.v = mutable_rows_of(d.tensors.v);
  d.places.g = mutable_rows_of(d.tensors.g);
  d.places.beta = mutable_rows_of(d.tensors.beta);
  d.places.a = mutable_rows_of(d.tensors.a);
  d.places.b = mutable_rows_of(d.tensors.b);
  d.places.initial_state = floats(d.tensors.initial_state);
  return d;
}

RecurrenceInputs finished_gradients(RecurrenceInputs d, const RecurrenceInputs& in, Tensor (*sum)(const Tensor&)) {
  d.q = sum_groups(d.q, in.q);
  d.k = sum_groups(d.k, in.k);
  for (auto [gradient, input] : {std::pair{&d.v, &in.v},
                                 {&d.g, &in.g},
                                 {&d.beta, &in.beta},
                                 {&d.a, &in.a},
                                 {&d.b, &in.b},
                                 {&d.initial_state, &in.initial_state}}) {
    *gradient = as_input(*gradient, *input);
  }
  if (d.gate) {
    if (d.gate->A_log.defined()) d.gate->A_log = as_input(sum(d.gate->A_log), in.gate->A_log);
    if (d.gate->dt_bias.defined()) d.gate->dt_bias = as_input(sum(d.gate->dt_bias), in.gate->dt_bias);
  }
  return d;
}

}  // namespace klab::kernels
