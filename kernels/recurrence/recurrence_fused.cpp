// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/recurrence_fused.h"

#include <ATen/ATen.h>

#include "kernels/common/kernel_tensors.h"
#include "kernels/recurrence/recurrence_arguments.h"

namespace klab::kernels {
namespace {

using at::Tensor;

double scale_of(const RecurrenceInputs& in) {
  return in.scale.value_or(1.0 / std::sqrt(static_cast<double>(in.q.size(3))));
}

Tensor as_input(const Tensor& gradient, const Tensor& input) { return gradient.to(input.scalar_type()).view_as(input); }

// A query and key head's gradient is the sum over the value heads that read it.
Tensor sum_groups(const Tensor& gradient, const Tensor& input) {
  const int64_t H = input.size(2), group = gradient.size(2) / H;
  Tensor total = gradient.unflatten(2, {H, group}).select(3, 0).clone();
  for (int64_t i = 1; i < group; ++i) total += gradient.unflatten(2, {H, group}).select(3, i);
  return total.to(input.scalar_type());
}

bool has_query_heads(const TensorArgument& argument) {
  return argument.shape.rank == 4 && argument.shape.sizes[2] == Size::H;
}

}  // namespace

RecurrenceInputs with_plain_rows(RecurrenceInputs in) {
  each_tensor(in, [](const TensorArgument& argument, Tensor& x) {
    if (argument.is_rows()) x = with_plain_rows(x);
    if (argument.role == Role::state || argument.role == Role::parameter) x = plain_float(x);
  });
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
  const auto rows = p.rows();
  size_t next = 0;
  each_tensor(in, [&](const TensorArgument& argument, const Tensor& x) {
    if (argument.is_rows()) *rows[next++] = rows_of(x);
  });
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
  const int64_t HV = in.v.size(2);
  GradientTensors d{in, {}};
  const auto rows = d.places.rows();
  size_t next = 0;
  each_tensor(d.tensors, [&](const TensorArgument& argument, Tensor& x) {
    if (argument.role == Role::offsets) x = Tensor();
    if (x.defined()) {
      if (argument.role == Role::parameter) {
        x = empty({sequences, x.numel()}, float32);
      } else if (has_query_heads(argument) && x.size(2) != HV) {
        x = empty({x.size(0), x.size(1), HV, x.size(3)}, float32);
      } else {
        x = empty(x.sizes(), x.options());
      }
    }
    if (argument.is_rows()) *rows[next++] = mutable_rows_of(x);
  });
  d.places.initial_state = floats(d.tensors.initial_state);
  if (in.gate) {
    d.places.A_log = floats(d.tensors.gate->A_log);
    d.places.dt_bias = floats(d.tensors.gate->dt_bias);
  }
  return d;
}

RecurrenceInputs finished_gradients(RecurrenceInputs d, const RecurrenceInputs& in, Tensor (*sum)(const Tensor&)) {
  const ArgumentTensors inputs = tensors_of(in);
  size_t next = 0;
  each_tensor(d, [&](const TensorArgument& argument, Tensor& gradient) {
    const Tensor& input = inputs[next++];
    if (!gradient.defined()) return;
    if (argument.role == Role::parameter) gradient = sum(gradient);
    const bool grouped = has_query_heads(argument) && gradient.size(2) != input.size(2);
    gradient = grouped ? sum_groups(gradient, input) : as_input(gradient, input);
  });
  return d;
}

}  // namespace klab::kernels
