#include "kernels/recurrence_cpu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/recurrence.h"
#include "kernels/cpu/workers.h"

namespace klab::kernels {
namespace {

using at::Tensor;

cpu::Dtype dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat: return cpu::Dtype::float32;
    case at::kBFloat16: return cpu::Dtype::bfloat16;
    default: return cpu::Dtype::float16;
  }
}

// [B, T, heads] is [B, T, heads, 1].
template <typename View>
View view_of(const Tensor& x) {
  if (!x.defined()) return {};
  return {x.data_ptr(), x.stride(0), x.stride(1), x.stride(2), dtype_of(x)};
}

// As the kernels want it: rows without gaps. Other strides stay.
Tensor with_plain_rows(const Tensor& x) {
  if (!x.defined() || x.dim() == 3 || x.size(3) == 1 || x.stride(3) == 1) return x;
  return x.contiguous();
}

Tensor plain_float(const Tensor& x) { return x.defined() ? x.to(at::kFloat).contiguous() : x; }

const float* floats(const Tensor& x) { return x.defined() ? x.data_ptr<float>() : nullptr; }

float* mutable_floats(const Tensor& x) { return x.defined() ? x.data_ptr<float>() : nullptr; }

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

std::vector<cpu::Sequence> sequences(const RecurrenceInputs& in, const std::vector<int64_t>& offsets) {
  std::vector<cpu::Sequence> all;
  if (offsets.empty()) {
    for (int64_t row = 0; row < in.q.size(0); ++row) all.push_back({row, 0, in.q.size(1)});
  }
  for (size_t n = 0; n + 1 < offsets.size(); ++n) all.push_back({0, offsets[n], offsets[n + 1] - offsets[n]});
  return all;
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
  p.V = in.v.size(3);
  p.sequences = sequences(in, offsets);
  p.q = view_of<cpu::Rows>(in.q);
  p.k = view_of<cpu::Rows>(in.k);
  p.v = view_of<cpu::Rows>(in.v);
  p.g = view_of<cpu::Rows>(in.g);
  p.beta = view_of<cpu::Rows>(in.beta);
  p.a = view_of<cpu::Rows>(in.a);
  p.b = view_of<cpu::Rows>(in.b);
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

Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) {
  const Tensor x = at::empty(shape, options);
  cpu::advise_large_pages(x.data_ptr(), x.nbytes());
  return x;
}

// Segments of all sequences, or for packed ones the most that their number and T allow: the shape of what is kept must
// not depend on what the offsets are.
int64_t most_segments(const RecurrenceInputs& in, int64_t count) {
  const int64_t T = in.q.size(1);
  const auto up = [](int64_t tokens) { return (tokens + cpu::kSegment - 1) / cpu::kSegment; };
  return in.cu_seqlens.defined() ? (T + (cpu::kSegment - 1) * count) / cpu::kSegment : count * up(T);
}

// Sums over the first dimension, in its order: the same bits on any number of threads.
Tensor sum_rows(const Tensor& x) {
  Tensor total = x[0].clone();
  for (int64_t n = 1; n < x.size(0); ++n) total += x[n];
  return total;
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

bool needs_gradient(const RecurrenceInputs& in) {
  if (!at::GradMode::is_enabled()) return false;
  const RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
  for (const Tensor* x :
       {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.a, &in.b, &in.initial_state, &gate.A_log, &gate.dt_bias}) {
    if (x->defined() && x->requires_grad()) return true;
  }
  return false;
}

}  // namespace

std::string recurrence_cpu_declines(const RecurrenceInputs& in) {
  if (!in.q.is_cpu()) return "the tensors are not on the CPU";
  for (const Tensor* x : {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.a, &in.b, &in.initial_state}) {
    if (x->defined() && x->scalar_type() == at::kDouble) return "it computes in float32 and a tensor is float64";
  }
  return "";
}

RecurrenceOutputs recurrence_cpu_forward(const RecurrenceInputs& inputs, const std::vector<int64_t>& offsets,
                                         RecurrenceKept* kept) {
  const RecurrenceInputs in = plain(inputs);
  const cpu::Problem p = problem(in, offsets);
  const auto float32 = in.v.options().dtype(at::kFloat);
  RecurrenceOutputs out{empty(in.v.sizes(), in.v.options()), empty({p.count(), p.HV, p.K, p.V}, float32)};
  cpu::Kept buffers;
  if (kept != nullptr) {
    kept->corrections =
        p.update == cpu::Update::accumulate ? empty({0}, float32) : empty(in.v.sizes(), float32);
    kept->states = empty({most_segments(in, p.count()), p.HV, cpu::padded_key(p.K) * cpu::padded_value(p.V)}, float32);
    if (kept->corrections.numel() > 0) buffers.corrections = mutable_floats(kept->corrections);
    buffers.states = mutable_floats(kept->states);
  }
  cpu::forward(p, view_of<cpu::MutableRows>(out.o), mutable_floats(out.final_state), buffers);
  return out;
}

RecurrenceInputs recurrence_cpu_backward(const RecurrenceInputs& inputs, const std::vector<int64_t>& offsets,
                                         const RecurrenceKept& kept, const Tensor& d_o, const Tensor& d_final_state) {
  const RecurrenceInputs in = plain(inputs);
  const cpu::Problem p = problem(in, offsets);
  const auto float32 = in.v.options().dtype(at::kFloat);
  const bool grouped = p.HV != p.H;
  const auto key_like = [&](const Tensor& x) {
    return grouped ? empty({x.size(0), x.size(1), p.HV, p.K}, float32) : empty(x.sizes(), x.options());
  };
  const auto like = [](const Tensor& x) { return x.defined() ? empty(x.sizes(), x.options()) : x; };

  RecurrenceInputs d;
  d.q = key_like(in.q);
  d.k = key_like(in.k);
  d.v = like(in.v);
  d.g = like(in.g);
  d.beta = like(in.beta);
  d.a = like(in.a);
  d.b = like(in.b);
  d.initial_state = like(in.initial_state);
  if (in.gate) {
    d.gate.emplace();
    const int64_t per_head = p.decay == cpu::Decay::channel ? p.K : 1;
    if (in.gate->A_log.defined()) d.gate->A_log = empty({p.count(), p.HV}, float32);
    if (in.gate->dt_bias.defined()) d.gate->dt_bias = empty({p.count(), p.HV * per_head}, float32);
  }
  cpu::Gradients out{.q = view_of<cpu::MutableRows>(d.q),
                     .k = view_of<cpu::MutableRows>(d.k),
                     .v = view_of<cpu::MutableRows>(d.v),
                     .g = view_of<cpu::MutableRows>(d.g),
                     .beta = view_of<cpu::MutableRows>(d.beta),
                     .a = view_of<cpu::MutableRows>(d.a),
                     .b = view_of<cpu::MutableRows>(d.b),
                     .initial_state = mutable_floats(d.initial_state)};
  if (d.gate) {
    out.A_log = mutable_floats(d.gate->A_log);
    out.dt_bias = mutable_floats(d.gate->dt_bias);
  }
  const Tensor d_o_rows = d_o.contiguous(), d_end = plain_float(d_final_state);
  const cpu::Kept buffers{kept.corrections.numel() > 0 ? mutable_floats(kept.corrections) : nullptr,
                          mutable_floats(kept.states)};
  cpu::backward(p, view_of<cpu::Rows>(d_o_rows), floats(d_end), buffers, out);

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
  if (!needs_gradient(in)) return recurrence_cpu_forward(in, offsets, nullptr);
  const RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
  constexpr auto argument = RecurrenceFunction::argument;
  const auto out = RecurrenceFunction::apply(in, offsets, argument(in.q), argument(in.k), argument(in.v), argument(in.g),
                                             argument(in.beta), argument(in.a), argument(in.b),
                                             argument(in.initial_state), argument(gate.A_log), argument(gate.dt_bias));
  return {out[0], out[1]};
}

}  // namespace klab::kernels
