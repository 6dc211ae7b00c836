#include "kernels/short_conv/short_conv_fused.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/common/kernel_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

class ShortConvFunction : public torch::autograd::Function<ShortConvFunction> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;
  using Argument = std::optional<Tensor>;

  // The tensors again as arguments of their own: those are what autograd follows.
  static Tensors forward(Context* context, const FusedShortConv* kernels, const ShortConvInputs& in, const Argument&,
                         const Argument&, const Argument&, const Argument&) {
    const ShortConvOutputs out = kernels->forward(in);
    context->save_for_backward({in.x, in.weight, in.bias, in.initial_state, in.cu_seqlens});
    context->saved_data["kernels"] = static_cast<int64_t>(reinterpret_cast<intptr_t>(kernels));
    context->saved_data["activation"] = in.activation;
    return {out.y, out.final_state};
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    auto& data = context->saved_data;
    const auto* kernels = reinterpret_cast<const FusedShortConv*>(static_cast<intptr_t>(data["kernels"].toInt()));
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(), "short_conv: the ", kernels->name,
                                " kernel is differentiable once; for second derivatives take the implementation "
                                "'composed' or 'reference'");
    const Tensors saved = context->get_saved_variables();
    const ShortConvInputs in{saved[0], saved[1], saved[2], data["activation"].toStringRef(), saved[3], saved[4]};
    const Tensor d_y = d_out[0].defined() ? d_out[0].contiguous() : at::zeros(in.x.sizes(), in.x.options());
    const Tensor d_final_state = d_out[1].defined() ? d_out[1].contiguous() : Tensor();
    const ShortConvInputs d = kernels->backward(in, d_y, d_final_state);
    return {Tensor(), Tensor(), d.x, d.weight, d.bias, d.initial_state};
  }
};

}  // namespace

ShortConvOutputs run_fused(const FusedShortConv& kernels, const ShortConvInputs& in) {
  if (!needs_gradient({in.x, in.weight, in.bias, in.initial_state})) return kernels.forward(in);
  const auto argument = [](const Tensor& x) { return x.defined() ? std::optional<Tensor>(x) : std::nullopt; };
  const auto out = ShortConvFunction::apply(&kernels, in, argument(in.x), argument(in.weight), argument(in.bias),
                                            argument(in.initial_state));
  return {out[0], out[1]};
}

}  // namespace klab::kernels
