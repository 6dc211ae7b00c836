#include "kernels/recurrence_cpu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/recurrence.h"
#include "kernels/cpu_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// The inputs with rows that the kernels can take; owns what their problem points to.
RecurrenceInputs plain(RecurrenceInputs in) {
  for (Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.a, &in.b}) *x = with_plain_rows(*x);
  in.initial_state = plain_float(in.initial_state);
  if (in.gate) {
    in.gate->A_log = plain_float(in.gate->A_log);
    in.gate->dt_bias = plain_float(in.gate->dt_bias);
  }
  return in;
}

double scale_of(const RecurrenceInputs& in) {
  return in.scale.value_or(1.0 / std::sqrt(static_cast<double>(in.q.size(3))));
}

cpu::Problem problem(const RecurrenceInputs& in, const std::vector<int64_t>& offsets) {
  cpu::Problem p;
  p.decay = in.decay() == Decay::none     ? cpu::Decay::none
            : in.decay() == Decay::scalar ? cpu::Decay::scalar
                                          : cpu::Decay::channel;
  p.update = in.update() == Update::accumulate ? cpu::Update::accumulate
             : in.update() == Update::delta    ? cpu::Update::delta
                                               : cpu::Update::dplr;
  p.H = in.q.size(2);
  p.HV = in.v.size(2);
  p.K = in.q.size(3);
  p.V = p.state_width = in.v.size(3);
  p.sequences = sequences_of(in.q.size(0), in.q.size(1), offsets);
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
    p.gate = in.gate->lower_bound ? cpu::Gate::bounded : cpu::Gate::softplus;
    p.lower_bound = static_cast<float>(in.gate->lower_bound.value_or(0));
    p.A_log = floats(in.gate->A_log);
    p.dt_bias = floats(in.gate->dt_bias);
  }
  p.beta_sigmoid = in.beta_sigmoid;
  p.beta_factor = in.allow_neg_eigval ? 2.0f : 1.0f;
  return p;
}

// Segments of all sequences, or for packed ones the most that their number and T allow: the shape of what is kept must
// not depend on what the offsets are.
int64_t most_segments(const RecurrenceInputs& in, int64_t count) {
  const int64_t T = in.q.size(1);
  const auto up = [](int64_t tokens) { return (tokens + cpu::kSegment - 1) / cpu::kSegment; };
  return in.cu_seqlens.defined() ? (T + (cpu::kSegment - 1) * count) / cpu::kSegment : count * up(T);
}

// Up to this many tokens, steps are faster than a chunk of 16.
constexpr int64_t kMostSteps = 8;

int64_t longest(const cpu::Problem& p) {
  int64_t length = 0;
  for (const cpu::Sequence& s : p.sequences) length = std::max(length, s.length);
  return length;
}

Tensor as_input(const Tensor& gradient, const Tensor& input) {
  return gradient.defined() ? gradient.to(input.scalar_type()).view_as(input) : gradient;
}

// A query and key head's gradient is the sum over the value heads that read it.
Tensor sum_groups(const Tensor& gradient, const Tensor& input) {
  const int64_t H = input.size(2), group = gradient.size(2) / H;
  if (group == 1) return gradient;
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
  static Tensors forward(Context* context, const RecurrenceInputs& in, const std::vector<int64_t>& offsets,
                         const Argument&, const Argument&, const Argument&, const Argument&, const Argument&,
                         const Argument&, const Argument&, const Argument&, const Argument&, const Argument&) {
    RecurrenceKept kept;
    const RecurrenceOutputs out = recurrence_cpu_forward(in, offsets, &kept);
    const RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
    context->save_for_backward({in.q, in.k, in.v, in.g, in.beta, in.a, in.b, in.initial_state, gate.A_log, gate.dt_bias,
                                kept.corrections, kept.states});
    context->saved_data["scale"] = scale_of(in);
    context->saved_data["qk_l2norm"] = in.qk_l2norm;
    context->saved_data["gate"] = in.gate.has_value();
    context->saved_data["lower_bound"] = gate.lower_bound;
    context->saved_data["beta_sigmoid"] = in.beta_sigmoid;
    context->saved_data["allow_neg_eigval"] = in.allow_neg_eigval;
    context->saved_data["offsets"] = offsets;
    return {out.o, out.final_state};
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "recurrence: the CPU kernel is differentiable once; for second derivatives take the "
                                "implementation 'chunk' or 'reference'");
    const Tensors saved = context->get_saved_variables();
    auto& data = context->saved_data;
    RecurrenceInputs in;
    in.q = saved[0];
    in.k = saved[1];
    in.v = saved[2];
    in.g = saved[3];
    in.beta = saved[4];
    in.a = saved[5];
    in.b = saved[6];
    in.initial_state = saved[7];
    in.scale = data["scale"].toDouble();
    in.qk_l2norm = data["qk_l2norm"].toBool();
    if (data["gate"].toBool()) in.gate = RecurrenceGate{saved[8], saved[9], data["lower_bound"].toOptional<double>()};
    in.beta_sigmoid = data["beta_sigmoid"].toBool();
    in.allow_neg_eigval = data["allow_neg_eigval"].toBool();
    const std::vector<int64_t> offsets = data["offsets"].toIntVector();
    const Tensor d_o = d_out[0].defined() ? d_out[0] : at::zeros_like(in.v);
    const RecurrenceInputs d = recurrence_cpu_backward(in, offsets, {saved[10], saved[11]}, d_o, d_out[1]);
    const RecurrenceGate d_gate = d.gate.value_or(RecurrenceGate{});
    return {Tensor(), Tensor(), d.q, d.k, d.v, d.g, d.beta, d.a, d.b, d.initial_state, d_gate.A_log, d_gate.dt_bias};
  }
};

}  // namespace

std::string recurrence_cpu_declines(const RecurrenceInputs& in) {
  return cpu_kernels_decline({in.q, in.k, in.v, in.g, in.beta, in.a, in.b, in.initial_state});
}

RecurrenceOutputs recurrence_cpu_forward(const RecurrenceInputs& inputs, const std::vector<int64_t>& offsets,
                                         RecurrenceKept* kept) {
  const RecurrenceInputs in = plain(inputs);
  const cpu::Problem p = problem(in, offsets);
  const auto float32 = in.v.options().dtype(at::kFloat);
  RecurrenceOutputs out{empty_result(in.v.sizes(), in.v.options()),
                        in.overwrite_state ? in.initial_state : empty_result({p.count(), p.HV, p.K, p.V}, float32)};
  cpu::Kept buffers;
  if (kept != nullptr) {
    kept->corrections =
        p.update == cpu::Update::accumulate ? empty_result({0}, float32) : empty_result(in.v.sizes(), float32);
    kept->states =
        empty_result({most_segments(in, p.count()), p.HV, cpu::padded_key(p.K) * cpu::padded_value(p.V)}, float32);
    // Of packed sequences there may be fewer segments; what stays unused is still a result and must be the same each
    // time.
    const int64_t used = cpu::segment_offsets(p.sequences).back();
    kept->states.narrow(0, used, kept->states.size(0) - used).zero_();
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

RecurrenceInputs recurrence_cpu_backward(const RecurrenceInputs& inputs, const std::vector<int64_t>& offsets,
                                         const RecurrenceKept& kept, const Tensor& d_o, const Tensor& d_final_state) {
  const RecurrenceInputs in = plain(inputs);
  const cpu::Problem p = problem(in, offsets);
  const auto float32 = in.v.options().dtype(at::kFloat);
  const bool grouped = p.HV != p.H;
  const auto key_like = [&](const Tensor& x) {
    return grouped ? empty_result({x.size(0), x.size(1), p.HV, p.K}, float32) : empty_result(x.sizes(), x.options());
  };

  RecurrenceInputs d;
  d.q = key_like(in.q);
  d.k = key_like(in.k);
  d.v = empty_result_like(in.v);
  d.g = empty_result_like(in.g);
  d.beta = empty_result_like(in.beta);
  d.a = empty_result_like(in.a);
  d.b = empty_result_like(in.b);
  d.initial_state = empty_result_like(in.initial_state);
  if (in.gate) {
    d.gate.emplace();
    const int64_t per_head = p.decay == cpu::Decay::channel ? p.K : 1;
    if (in.gate->A_log.defined()) d.gate->A_log = empty_result({p.count(), p.HV}, float32);
    if (in.gate->dt_bias.defined()) d.gate->dt_bias = empty_result({p.count(), p.HV * per_head}, float32);
  }
  cpu::Gradients out{.q = mutable_rows_of(d.q),
                     .k = mutable_rows_of(d.k),
                     .v = mutable_rows_of(d.v),
                     .g = mutable_rows_of(d.g),
                     .beta = mutable_rows_of(d.beta),
                     .a = mutable_rows_of(d.a),
                     .b = mutable_rows_of(d.b),
                     .initial_state = floats(d.initial_state)};
  if (d.gate) {
    out.A_log = floats(d.gate->A_log);
    out.dt_bias = floats(d.gate->dt_bias);
  }
  const Tensor d_o_rows = d_o.contiguous(), d_end = plain_float(d_final_state);
  const cpu::Kept buffers{floats(kept.corrections), floats(kept.states)};
  cpu::backward(p, rows_of(d_o_rows), floats(d_end), buffers, out);

  d.q = sum_groups(d.q, in.q);
  d.k = sum_groups(d.k, in.k);
  d.initial_state = as_input(d.initial_state, inputs.initial_state);
  if (d.gate) {
    if (d.gate->A_log.defined()) d.gate->A_log = as_input(sum_rows(d.gate->A_log), inputs.gate->A_log);
    if (d.gate->dt_bias.defined()) d.gate->dt_bias = as_input(sum_rows(d.gate->dt_bias), inputs.gate->dt_bias);
  }
  return d;
}

RecurrenceOutputs recurrence_cpu(const RecurrenceInputs& in, const std::vector<int64_t>& offsets) {
  const RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
  if (!needs_gradient({in.q, in.k, in.v, in.g, in.beta, in.a, in.b, in.initial_state, gate.A_log, gate.dt_bias})) {
    return recurrence_cpu_forward(in, offsets, nullptr);
  }
  constexpr auto argument = RecurrenceFunction::argument;
  const auto out = RecurrenceFunction::apply(in, offsets, argument(in.q), argument(in.k), argument(in.v),
                                             argument(in.g), argument(in.beta), argument(in.a), argument(in.b),
                                             argument(in.initial_state), argument(gate.A_log), argument(gate.dt_bias));
  return {out[0], out[1]};
}

}  // namespace klab::kernels
