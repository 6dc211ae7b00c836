#include "kernels/kda_gate/kda_gate_cuda.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// The arguments as the kernel takes them; owns what its problem points to.
struct Plain {
  Tensor raw, A_log, dt_bias;
  cuda::KdaGateProblem problem;

  Plain(const Tensor& given_raw, const Tensor& given_A_log, const Tensor& given_dt_bias,
        std::optional<double> lower_bound)
      : raw(given_raw.contiguous()), A_log(plain_float(given_A_log)), dt_bias(plain_float(given_dt_bias)) {
    const bool per_channel = raw.dim() == 4;
    const Rows rows = flat_rows_of(raw);
    problem = {.tokens = raw.size(0) * raw.size(1),
               .H = raw.size(2),
               .K = per_channel ? raw.size(3) : 1,
               .raw = rows.data,
               .dtype = rows.dtype,
               .A_log = floats(A_log),
               .dt_bias = floats(dt_bias),
               .bounded = lower_bound.has_value(),
               .lower_bound = static_cast<float>(lower_bound.value_or(0))};
  }
};

Tensor forward(const Plain& plain) {
  const Tensor g = at::empty(plain.raw.sizes(), plain.raw.options().dtype(at::kFloat));
  const cuda::Backend& cuda = cuda::backend();
  cuda.kda_gate_forward(plain.problem, floats(g), cuda.stream(g.device()));
  return g;
}

class KdaGateFunction : public torch::autograd::Function<KdaGateFunction> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;

  static Tensor forward(Context* context, const Tensor& raw, const std::optional<Tensor>& A_log,
                        const std::optional<Tensor>& dt_bias, std::optional<double> lower_bound) {
    context->save_for_backward({raw, A_log.value_or(Tensor()), dt_bias.value_or(Tensor())});
    context->saved_data["lower_bound"] = lower_bound;
    return kernels::forward(Plain(raw, A_log.value_or(Tensor()), dt_bias.value_or(Tensor()), lower_bound));
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "kda_gate: the CUDA kernel is differentiable once; for second derivatives take the "
                                "implementation 'reference'");
    const Tensors saved = context->get_saved_variables();
    const Tensor &raw = saved[0], &A_log = saved[1], &dt_bias = saved[2];
    const c10::OptionalDeviceGuard guard(raw.device());
    const Plain plain(raw, A_log, dt_bias, context->saved_data["lower_bound"].toOptional<double>());
    const cuda::KdaGateProblem& p = plain.problem;
    const cuda::Backend& cuda = cuda::backend();
    const Tensor d_g = plain_float(d_out[0]), d_raw = at::empty(raw.sizes(), raw.options());
    Tensor d_parameters, space;
    if (A_log.defined() || dt_bias.defined()) {
      d_parameters = at::empty({2, p.H, p.K}, d_g.options());
      space = workspace(cuda.kda_gate_backward_workspace(p), d_g);
    }
    cuda.kda_gate_backward(p, floats(d_g), d_raw.data_ptr(), floats(d_parameters),
                           space.defined() ? space.data_ptr() : nullptr, cuda.stream(raw.device()));
    const auto as = [](const Tensor& gradient, const Tensor& parameter) {
      return gradient.to(parameter.scalar_type()).view_as(parameter);
    };
    return {d_raw, A_log.defined() ? as(d_parameters[1].sum(-1), A_log) : Tensor(),
            dt_bias.defined() ? as(d_parameters[0], dt_bias) : Tensor(), Tensor()};
  }
};

}  // namespace

Tensor kda_gate_cuda(const Tensor& raw, const Tensor& A_log, const Tensor& dt_bias, std::optional<double> lower_bound) {
  const c10::OptionalDeviceGuard guard(raw.device());
  if (!needs_gradient({raw, A_log, dt_bias})) return forward(Plain(raw, A_log, dt_bias, lower_bound));
  const auto argument = [](const Tensor& x) { return x.defined() ? std::optional<Tensor>(x) : std::nullopt; };
  return KdaGateFunction::apply(raw, argument(A_log), argument(dt_bias), lower_bound);
}

}  // namespace klab::kernels
