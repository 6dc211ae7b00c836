#include "kernels/norms_cpu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/norms.h"
#include "kernels/cpu_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// Rows of a contiguous [.., D].
template <typename View>
View rows_of_last(const Tensor& x, const View& all) {
  if (!x.defined()) return {};
  View rows = all;
  rows.batch = x.size(-1);
  return rows;
}

Rows rows(const Tensor& x) { return rows_of_last(x, x.defined() ? flat_rows_of(x.view({1, -1, x.size(-1)})) : Rows{}); }

MutableRows mutable_rows(const Tensor& x) {
  return rows_of_last(x, x.defined() ? mutable_flat_rows_of(x.view({1, -1, x.size(-1)})) : MutableRows{});
}

// The arguments as the kernel takes them; owns what its problem points to.
struct Plain {
  Tensor x, weight, gate;
  cpu::NormProblem problem;

  Plain(const Tensor& given_x, const Tensor& given_weight, const Tensor& given_gate, const std::string& activation,
        double eps)
      : x(given_x.contiguous()),
        weight(plain_float(given_weight)),
        gate(given_gate.defined() ? given_gate.contiguous() : given_gate) {
    problem.D = x.size(-1);
    problem.rows = problem.D > 0 ? x.numel() / problem.D : 0;
    problem.x = rows(x);
    problem.weight = floats(weight);
    problem.gate = rows(gate);
    problem.activation = activation == "sigmoid" ? cpu::GateActivation::sigmoid
                         : activation == "swish" ? cpu::GateActivation::swish
                                                 : cpu::GateActivation::none;
    problem.eps = static_cast<float>(eps);
  }
};

Tensor forward(const Plain& plain) {
  const Tensor y = empty_result_like(plain.x);
  cpu::gated_rms_norm_forward(plain.problem, mutable_rows(y));
  return y;
}

class GatedRmsNormFunction : public torch::autograd::Function<GatedRmsNormFunction> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;

  static Tensor forward(Context* context, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& gate,
                        const std::string& activation, double eps) {
    context->save_for_backward({x, weight, gate.value_or(Tensor())});
    context->saved_data["activation"] = activation;
    context->saved_data["eps"] = eps;
    return kernels::forward(Plain(x, weight, gate.value_or(Tensor()), activation, eps));
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "gated_rms_norm: the CPU kernel is differentiable once; for second derivatives take "
                                "the implementation 'reference'");
    const Tensors saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &gate = saved[2];
    const Plain plain(x, weight, gate, context->saved_data["activation"].toStringRef(),
                      context->saved_data["eps"].toDouble());
    const cpu::NormProblem& p = plain.problem;
    const Tensor d_y = d_out[0].contiguous();
    const Tensor d_x = empty_result(x.sizes(), x.options());
    const Tensor d_gate = gate.defined() ? empty_result(gate.sizes(), gate.options()) : Tensor();
    const Tensor d_weight =
        at::empty({(p.rows + cpu::kNormRows - 1) / cpu::kNormRows, p.D}, x.options().dtype(at::kFloat));
    cpu::gated_rms_norm_backward(p, rows(d_y), {mutable_rows(d_x), mutable_rows(d_gate), floats(d_weight)});
    return {d_x, sum_rows(d_weight).to(weight.scalar_type()), d_gate, Tensor(), Tensor()};
  }
};

}  // namespace

Tensor gated_rms_norm_cpu(const Tensor& x, const Tensor& weight, const Tensor& gate, const std::string& activation,
                          double eps) {
  const Tensor used = activation == "none" ? Tensor() : gate;
  if (!needs_gradient({x, weight, used})) return forward(Plain(x, weight, used, activation, eps));
  return GatedRmsNormFunction::apply(x, weight, used.defined() ? std::optional<Tensor>(used) : std::nullopt, activation,
                                     eps);
}

}  // namespace klab::kernels
