#include "kernels/norms/norms_fused.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

class NormFunction : public torch::autograd::Function<NormFunction> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;
  using Argument = std::optional<Tensor>;

  // The tensors again as arguments of their own: those are what autograd follows.
  static Tensor forward(Context* context, const FusedNorm* kernels, const NormInputs& in, const Argument&,
                        const Argument&, const Argument&) {
    context->save_for_backward({in.x, in.weight, in.gate});
    auto& data = context->saved_data;
    data["kernels"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(kernels));
    data["activation"] = static_cast<int64_t>(in.activation);
    data["eps"] = in.eps;
    data["mean"] = in.mean;
    return kernels->forward(in);
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    auto& data = context->saved_data;
    const auto* kernels = reinterpret_cast<const FusedNorm*>(static_cast<intptr_t>(data["kernels"].toInt()));
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(), "norm: the ", kernels->name,
                                " kernel is differentiable once; for second derivatives take the implementation "
                                "'reference'");
    const Tensors saved = context->get_saved_variables();
    const NormInputs in{saved[0],
                        saved[1],
                        saved[2],
                        static_cast<GateActivation>(data["activation"].toInt()),
                        data["eps"].toDouble(),
                        data["mean"].toBool()};
    const NormInputs d = kernels->backward(in, d_out[0].contiguous());
    return {Tensor(), Tensor(), d.x, d.weight, d.gate};
  }
};

template <typename View>
View rows_of_last(const Tensor& x, View (*flat)(const Tensor&)) {
  if (!x.defined()) return {};
  View rows = flat(x.view({1, -1, x.size(-1)}));
  rows.batch = x.size(-1);
  return rows;
}

}  // namespace

Tensor run_fused(const FusedNorm& kernels, const NormInputs& in) {
  if (!needs_gradient({in.x, in.weight, in.gate})) return kernels.forward(in);
  const auto argument = [](const Tensor& x) { return x.defined() ? std::optional<Tensor>(x) : std::nullopt; };
  return NormFunction::apply(&kernels, in, argument(in.x), argument(in.weight), argument(in.gate));
}

PlainNorm::PlainNorm(const NormInputs& in)
    : x(in.x.contiguous()), weight(plain_float(in.weight)), gate(in.gate.defined() ? in.gate.contiguous() : in.gate) {
  problem.D = x.size(-1);
  problem.rows = problem.D > 0 ? x.numel() / problem.D : 0;
  problem.x = norm_rows(x);
  problem.weight = floats(weight);
  problem.gate = norm_rows(gate);
  problem.activation = in.activation;
  problem.eps = static_cast<float>(in.eps);
  problem.mean = in.mean;
}

Rows norm_rows(const Tensor& x) { return rows_of_last<Rows>(x, flat_rows_of); }
MutableRows mutable_norm_rows(const Tensor& x) { return rows_of_last<MutableRows>(x, mutable_flat_rows_of); }

}  // namespace klab::kernels
