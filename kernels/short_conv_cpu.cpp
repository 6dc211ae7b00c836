#include "kernels/short_conv_cpu.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu/short_conv.h"
#include "kernels/cpu_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// The inputs as the kernel takes them; owns what its problem points to.
struct Plain {
  Tensor x, weight, bias, initial_state;  // weight is [W, D]
  cpu::ShortConvProblem problem;

  Plain(const ShortConvInputs& in, const std::vector<int64_t>& offsets)
      : x(with_plain_rows(in.x)),
        weight(in.weight.to(at::kFloat).t().contiguous()),
        bias(plain_float(in.bias)),
        initial_state(with_plain_rows(in.initial_state)) {
    problem.D = x.size(2);
    problem.W = weight.size(0);
    problem.sequences = sequences_of(x.size(0), x.size(1), offsets);
    problem.x = flat_rows_of(x);
    problem.weight = floats(weight);
    problem.bias = floats(bias);
    problem.silu = in.activation == "silu";
    problem.initial_state = flat_rows_of(initial_state);
  }
};

ShortConvOutputs forward(const ShortConvInputs& in, const std::vector<int64_t>& offsets) {
  const Plain plain(in, offsets);
  const cpu::ShortConvProblem& p = plain.problem;
  ShortConvOutputs out{empty_result(in.x.sizes(), in.x.options()),
                       at::empty({static_cast<int64_t>(p.sequences.size()), p.W - 1, p.D}, in.x.options())};
  cpu::short_conv_forward(p, mutable_flat_rows_of(out.y), mutable_flat_rows_of(out.final_state));
  return out;
}

class ShortConvFunction : public torch::autograd::Function<ShortConvFunction> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;
  using Argument = std::optional<Tensor>;

  // The tensors again as arguments of their own: those are what autograd follows.
  static Tensors forward(Context* context, const ShortConvInputs& in, const std::vector<int64_t>& offsets,
                         const Argument&, const Argument&, const Argument&, const Argument&) {
    const ShortConvOutputs out = kernels::forward(in, offsets);
    context->save_for_backward({in.x, in.weight, in.bias, in.initial_state});
    context->saved_data["activation"] = in.activation;
    context->saved_data["offsets"] = offsets;
    return {out.y, out.final_state};
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    TORCH_CHECK_NOT_IMPLEMENTED(!at::GradMode::is_enabled(),
                                "short_conv: the CPU kernel is differentiable once; for second derivatives take the "
                                "implementation 'composed' or 'reference'");
    const Tensors saved = context->get_saved_variables();
    const ShortConvInputs in{saved[0], saved[1], saved[2], context->saved_data["activation"].toStringRef(),
                             saved[3], Tensor()};
    const Plain plain(in, context->saved_data["offsets"].toIntVector());
    const cpu::ShortConvProblem& p = plain.problem;
    const auto N = static_cast<int64_t>(p.sequences.size());
    const auto float32 = in.x.options().dtype(at::kFloat);
    const Tensor d_y = d_out[0].defined() ? d_out[0].contiguous() : at::zeros_like(in.x);
    const Tensor d_final_state = d_out[1].defined() ? d_out[1].contiguous() : Tensor();
    const Tensor d_x = empty_result(in.x.sizes(), in.x.options()),
                 d_initial_state = empty_result_like(in.initial_state);
    const Tensor d_weight = at::empty({N, p.W, p.D}, float32);
    const Tensor d_bias = in.bias.defined() ? at::empty({N, p.D}, float32) : Tensor();
    cpu::short_conv_backward(
        p, flat_rows_of(d_y), flat_rows_of(d_final_state),
        {mutable_flat_rows_of(d_x), mutable_flat_rows_of(d_initial_state), floats(d_weight), floats(d_bias)});
    return {Tensor(),
            Tensor(),
            d_x,
            sum_rows(d_weight).t().to(in.weight.scalar_type()),
            d_bias.defined() ? sum_rows(d_bias).to(in.bias.scalar_type()) : Tensor(),
            d_initial_state};
  }
};

}  // namespace

std::string short_conv_cpu_declines(const ShortConvInputs& in) {
  if (in.weight.size(1) > cpu::kMostTaps) return "it takes at most " + std::to_string(cpu::kMostTaps) + " taps";
  return cpu_kernels_decline({in.x, in.weight, in.bias, in.initial_state});
}

ShortConvOutputs short_conv_cpu(const ShortConvInputs& in, const std::vector<int64_t>& offsets) {
  if (!needs_gradient({in.x, in.weight, in.bias, in.initial_state})) return forward(in, offsets);
  const auto argument = [](const Tensor& x) { return x.defined() ? std::optional<Tensor>(x) : std::nullopt; };
  const auto out = ShortConvFunction::apply(in, offsets, argument(in.x), argument(in.weight), argument(in.bias),
                                            argument(in.initial_state));
  return {out[0], out[1]};
}

}  // namespace klab::kernels
