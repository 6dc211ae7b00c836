#include "kernels/linear.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/checks.h"
#include "kernels/cpu_tensors.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// Below these sizes oneDNN gains nothing over MKL (measured on AVX-512).
constexpr int64_t kFewRows = 32;
constexpr int64_t kSmallWeight = int64_t{128} * 128;

// Without gaps, in either order of the dimensions: for anything else (columns of a wider tensor, a broadcast gradient)
// oneDNN has only its reference loops, a thousand times slower.
Tensor dense(const Tensor& x) { return x.is_contiguous() || x.t().is_contiguous() ? x : x.contiguous(); }

// x weight^T with oneDNN; both may be views of any kind.
Tensor onednn_product(const Tensor& x, const Tensor& weight) {
  using Signature = Tensor(const Tensor&, const Tensor&, const std::optional<Tensor>&, c10::string_view,
                           c10::List<std::optional<at::Scalar>>, std::optional<c10::string_view>);
  static const auto product =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Signature>();
  return product.call(dense(x), dense(weight), std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// d_y^T x, a sum over many rows: oneDNN wants the shorter side first.
Tensor weight_gradient(const Tensor& d_y, const Tensor& x) {
  const int64_t N = d_y.size(1), K = x.size(1);
  if (N * K < kSmallWeight) return at::mm(d_y.t(), x);
  return N <= K ? onednn_product(d_y.t(), x.t()) : onednn_product(x.t(), d_y.t()).t().contiguous();
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  using Context = torch::autograd::AutogradContext;
  using Tensors = torch::autograd::variable_list;

  static Tensor forward(Context* context, const Tensor& x, const Tensor& weight) {
    context->save_for_backward({x, weight});
    return onednn_product(x, weight);
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    const Tensors saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    // With gradients of gradients asked for, by operators that have them.
    if (at::GradMode::is_enabled()) return {at::matmul(d_out[0], weight), at::mm(d_out[0].t(), x)};
    Tensors gradients(2);
    if (context->needs_input_grad(0)) gradients[0] = onednn_product(d_out[0], weight.t());
    if (context->needs_input_grad(1)) gradients[1] = weight_gradient(d_out[0].contiguous(), x);
    return gradients;
  }
};

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight) {
  constexpr const char* kOp = "linear";
  TORCH_CHECK_VALUE(x.defined() && x.dim() >= 1, kOp, ": x must be [.., K]");
  check_tensor(kOp, "x", x, x.sizes(), x);
  check_tensor(kOp, "weight", weight, {-1, x.size(-1)}, x);
  const int64_t K = x.size(-1), N = weight.size(0), rows = K > 0 ? x.numel() / K : 0;
  const bool onednn = x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
                      rows >= kFewRows && N > 1 && K > 1 && at::globalContext().userEnabledMkldnn();
  if (!onednn) return at::linear(x, weight);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = N;
  const Tensor flat = x.reshape({rows, K});
  const Tensor y = needs_gradient({x, weight}) ? LinearFunction::apply(flat, weight) : onednn_product(flat, weight);
  return y.view(shape);
}

}  // namespace klab::kernels
