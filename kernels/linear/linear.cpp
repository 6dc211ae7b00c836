// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear/linear.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <limits>

#include "kernels/common/aten_private.h"
#include "kernels/common/checks.h"
#include "kernels/common/cpu/built.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/linear/cpu/products.h"
#include "kernels/linear/cpu/shared_input.h"
#include "kernels/linear/weight_matrix.h"

namespace klab::kernels {
namespace {

using at::Tensor;
using Tensors = std::vector<Tensor>;

constexpr const char* kOp = "linear";

// Below these sizes neither oneDNN nor, for gradients of weights, klab's own kernel is faster than MKL (measured on
// AVX-512).
constexpr int64_t kManyRows = 32;
constexpr int64_t kSmallWeight = int64_t{128} * 128;

// The tensor, made contiguous unless it or its transpose is: for other strides (columns of a wider tensor, a broadcast
// gradient) oneDNN has only reference loops, a thousand times slower.
Tensor dense(const Tensor& x) { return x.is_contiguous() || x.t().is_contiguous() ? x : x.contiguous(); }

// x weight^T with oneDNN; both may have any strides.
Tensor onednn_product(const Tensor& x, const Tensor& weight) { return onednn_linear(dense(x), dense(weight)); }

// d_y^T x, a sum over many rows: oneDNN is faster with the shorter side first.
Tensor weight_gradient(const Tensor& d_y, const Tensor& x) {
  const int64_t N = d_y.size(1), K = x.size(1);
  if (N * K < kSmallWeight) return at::mm(d_y.t(), x);
  return N <= K ? onednn_product(d_y.t(), x.t()) : onednn_product(x.t(), d_y.t()).t().contiguous();
}

class LinearFunction : public torch::autograd::Function<LinearFunction> {
 public:
  using Context = torch::autograd::AutogradContext;

  static Tensor forward(Context* context, const Tensor& x, const Tensor& weight) {
    context->save_for_backward({x, weight});
    return onednn_product(x, weight);
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    const Tensors saved = context->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1];
    // For second derivatives, use operators that are differentiable again.
    if (at::GradMode::is_enabled()) return {at::matmul(d_out[0], weight), at::mm(d_out[0].t(), x)};
    Tensors gradients(2);
    if (context->needs_input_grad(0)) gradients[0] = onednn_product(d_out[0], weight.t());
    if (context->needs_input_grad(1)) gradients[1] = weight_gradient(d_out[0].contiguous(), x);
    return gradients;
  }
};

// --- Many rows with small weights: klab's own kernel --------------------------------------------------------------

// The most elements of all weights of a call: packed, they stay in the L2 cache.
constexpr int64_t kMostWeight = int64_t{512} << 10;

bool fits_own_kernel(const Tensor& x, at::TensorList weights) {
  const int64_t K = x.size(-1);
  if (!cpu::built() || !x.is_cpu() || x.scalar_type() != at::kFloat || K == 0 || x.numel() / K < kManyRows)
    return false;
  int64_t elements = 0;
  for (const Tensor& weight : weights) {
    if (weight.scalar_type() != at::kFloat || weight.numel() == 0) return false;
    elements += weight.numel();
  }
  return elements > 0 && elements <= kMostWeight;
}

// The arguments of the kernel; owns the memory that `problem` points to.
struct Shared {
  Tensors weights;
  cpu::SharedInputProblem problem;

  Shared(int64_t rows, int64_t K, at::TensorList given) {
    problem.rows = rows;
    problem.K = K;
    for (const Tensor& weight : given) {
      weights.push_back(weight.contiguous());
      problem.projections.push_back({weight.size(0), floats(weights.back())});
    }
  }
  Tensor workspace(const Tensor& like) const { return float_workspace(cpu::shared_input_workspace(problem), like); }
};

template <typename Pointer>
std::vector<Pointer> pointers(at::TensorList tensors) {
  std::vector<Pointer> all;
  for (const Tensor& x : tensors) all.push_back(floats(x));
  return all;
}

// For profilers: x and the weights.
std::vector<c10::IValue> recorded(const Tensor& x, at::TensorList weights) {
  std::vector<c10::IValue> inputs{x};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  return inputs;
}

// x [rows, K] contiguous: [rows, N_p] each.
Tensors shared_products(const Tensor& x, at::TensorList weights) {
  RECORD_FUNCTION("klab::linear", recorded(x, weights));
  const Shared shared(x.size(0), x.size(1), weights);
  Tensors y;
  for (const Tensor& weight : weights) y.push_back(empty_result({x.size(0), weight.size(0)}, x.options()));
  cpu::shared_input_forward(shared.problem, floats(x), pointers<float*>(y), floats(shared.workspace(x)));
  return y;
}

// The sum over p of d_y_p weight_p.
Tensor shared_gradient(at::TensorList d_y, at::TensorList weights) {
  RECORD_FUNCTION("klab::linear_backward", c10::ArrayRef<const c10::IValue>{});
  const Shared shared(d_y[0].size(0), weights[0].size(1), weights);
  const Tensor d_x = empty_result({shared.problem.rows, shared.problem.K}, d_y[0].options());
  cpu::shared_input_gradient(shared.problem, pointers<const float*>(d_y), floats(d_x), floats(shared.workspace(d_x)));
  return d_x;
}

// d_y_p^T x for every p.
Tensors shared_weight_gradients(const Tensor& x, at::TensorList d_y, at::TensorList weights) {
  RECORD_FUNCTION("klab::linear_backward", c10::ArrayRef<const c10::IValue>{});
  Tensors d_weights;
  if (std::all_of(weights.begin(), weights.end(), [](const Tensor& weight) { return weight.numel() < kSmallWeight; })) {
    for (const Tensor& one : d_y) d_weights.push_back(at::mm(one.t(), x));  // little arithmetic per element to pack
    return d_weights;
  }
  const Shared shared(x.size(0), x.size(1), weights);
  for (const Tensor& weight : weights) d_weights.push_back(at::empty(weight.sizes(), weight.options()));
  cpu::shared_input_weight_gradients(shared.problem, floats(x), pointers<const float*>(d_y),
                                     pointers<float*>(d_weights), floats(shared.workspace(x)));
  return d_weights;
}

class ProjectionsFunction : public torch::autograd::Function<ProjectionsFunction> {
 public:
  using Context = torch::autograd::AutogradContext;

  static Tensors forward(Context* context, const Tensor& x, at::TensorList weights) {
    Tensors saved{x};
    saved.insert(saved.end(), weights.begin(), weights.end());
    context->save_for_backward(saved);
    context->set_materialize_grads(false);
    return shared_products(x, weights);
  }

  static Tensors backward(Context* context, const Tensors& d_out) {
    const Tensors saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    Tensors gradients(saved.size()), d_y, weights;
    std::vector<size_t> used;  // the arguments whose results have a gradient
    for (size_t p = 0; p < d_out.size(); ++p) {
      if (!d_out[p].defined()) continue;
      d_y.push_back(d_out[p].contiguous());
      weights.push_back(saved[p + 1]);
      used.push_back(p + 1);
    }
    if (used.empty()) return gradients;
    const bool again = at::GradMode::is_enabled();  // second derivatives need operators that are differentiable again
    const auto needed = [&](size_t argument) { return context->needs_input_grad(argument); };
    if (needed(0)) gradients[0] = again ? composed_gradient(d_y, weights) : shared_gradient(d_y, weights);
    if (std::none_of(used.begin(), used.end(), needed)) return gradients;
    const Tensors d_weights = again ? Tensors() : shared_weight_gradients(x, d_y, weights);
    for (size_t i = 0; i < used.size(); ++i) {
      if (needed(used[i])) gradients[used[i]] = again ? at::mm(d_y[i].t(), x) : d_weights[i];
    }
    return gradients;
  }

 private:
  static Tensor composed_gradient(const Tensors& d_y, const Tensors& weights) {
    Tensor d_x = at::mm(d_y[0], weights[0]);
    for (size_t i = 1; i < d_y.size(); ++i) d_x = d_x + at::mm(d_y[i], weights[i]);
    return d_x;
  }
};

// x [.., K], for which fits_own_kernel().
Tensors own_products(const Tensor& x, at::TensorList weights) {
  const Tensor flat = x.reshape({-1, x.size(-1)}).contiguous();
  Tensors given{flat};
  given.insert(given.end(), weights.begin(), weights.end());
  Tensors y = records_gradient(given) ? ProjectionsFunction::apply(flat, weights) : shared_products(flat, weights);
  std::vector<int64_t> shape = x.sizes().vec();
  for (Tensor& one : y) {
    shape.back() = one.size(1);
    one = one.view(shape);
  }
  return y;
}

// --- Few rows, and narrower weights -------------------------------------------------------------------------------

// Up to this many rows klab's own kernel is faster than the libraries, measured with AVX-512. The limit is lower for
// bfloat16, for which oneDNN has special instructions; for a narrower weight the alternative is to convert all of it.
constexpr int64_t kFewRows = kManyRows - 1, kFewRowsOfBFloat16 = 16;

int64_t few_rows(const Tensor& x, const Tensor& weight) {
  const bool same = x.scalar_type() == weight.scalar_type();
  return same && x.scalar_type() == at::kBFloat16 ? kFewRowsOfBFloat16 : kFewRows;
}

constexpr int64_t kBlockBytes = int64_t{8} << 20;  // of the weight that is converted at a time

bool is_narrower(const Tensor& x, const Tensor& weight) { return weight.scalar_type() != x.scalar_type(); }

bool may_be_narrower(at::ScalarType weight, at::ScalarType x) {
  if (weight == at::kChar) return x == at::kFloat || x == at::kBFloat16 || x == at::kHalf;
  return x == at::kFloat && (weight == at::kBFloat16 || weight == at::kHalf);
}

void check(const Tensor& x, const Tensor& weight, const Tensor& scale) {
  TORCH_CHECK_VALUE(x.defined() && x.dim() >= 1, kOp, ": x must be [.., K]");
  check_tensor(kOp, "x", x, x.sizes(), x);
  check_weight(kOp, "weight", weight, "scale", scale, -1, x.size(-1), x);
  if (!is_narrower(x, weight)) return;
  TORCH_CHECK_VALUE(may_be_narrower(weight.scalar_type(), x.scalar_type()), kOp, ": weight has dtype ",
                    weight.scalar_type(), ", which cannot be combined with x of dtype ", x.scalar_type());
  for (const auto& [name, tensor] : {std::pair{"x", x}, {"weight", weight}, {"scale", scale}}) {
    TORCH_CHECK_VALUE(!records_gradient({tensor}), kOp, ": ", name, " needs a gradient, but weight has dtype ",
                      weight.scalar_type(), " and x ", x.scalar_type(), ": a narrower weight has no gradient");
  }
}

// x [rows, K] and weight have the same dtype; no gradient.
Tensor library_product(const Tensor& x, const Tensor& weight) {
  const bool onednn = x.is_cpu() && x.scalar_type() == at::kFloat && x.size(0) >= kManyRows && weight.size(0) > 1 &&
                      weight.size(1) > 1 && at::globalContext().userEnabledMkldnn();
  return onednn ? onednn_product(x, weight) : at::linear(x, weight);
}

// x [rows, K] with a narrower weight, which is converted one block of rows at a time.
Tensor widened_product(const Tensor& x, const Tensor& weight, const Tensor& scale) {
  const int64_t N = weight.size(0), K = weight.size(1);
  const bool sums_overflow = x.scalar_type() == at::kHalf;  // sums of products with integers
  const Tensor in = sums_overflow ? x.to(at::kFloat) : x;
  const int64_t most = std::max<int64_t>(1, kBlockBytes / (std::max<int64_t>(K, 1) * in.element_size()));
  const Tensor y = empty_result({x.size(0), N}, x.options());
  const Tensor block = at::empty({std::min(most, N), K}, in.options());
  for (int64_t first = 0; first < N; first += most) {
    const int64_t count = std::min(most, N - first);
    const Tensor widened = block.narrow(0, 0, count).copy_(weight.narrow(0, first, count));
    Tensor part = library_product(in, widened);  // [rows, count]
    if (scale.defined()) part = part * scale.narrow(0, first, count);
    y.narrow(1, first, count).copy_(part);
  }
  return y;
}

bool own_kernel(const Tensor& x, const Tensor& weight, const Tensor& scale, int64_t rows) {
  return x.is_cpu() && x.scalar_type() != at::kDouble && has_plain_rows(weight) && rows >= 1 &&
         rows <= few_rows(x, weight) && weight.numel() > 0 && !records_gradient({x, weight, scale});
}

// x [rows, K].
Tensor few_rows_product(const Tensor& given_x, const Tensor& weight, const Tensor& given_scale) {
  const Tensor x = with_plain_rows(given_x), scale = plain_float(given_scale);
  const Tensor y = empty_result({x.size(0), weight.size(0)}, x.options());
  cpu::product({x.size(0), flat_rows_of(x), weight_matrix_of(weight, scale), mutable_flat_rows_of(y)});
  return y;
}

}  // namespace

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& scale) {
  check(x, weight, scale);
  const int64_t K = x.size(-1), N = weight.size(0), rows = K > 0 ? x.numel() / K : 0;
  const bool own = own_kernel(x, weight, scale, rows), narrow = is_narrower(x, weight);
  const bool onednn = x.is_cpu() && x.scalar_type() == at::kFloat && rows >= kManyRows && N > 1 && K > 1 &&
                      at::globalContext().userEnabledMkldnn();
  if (!own && !narrow && fits_own_kernel(x, weight)) return own_products(x, weight).front();
  if (!own && !narrow && !onednn) return at::linear(x, weight);
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = N;
  if (x.numel() == 0 || N == 0) return at::zeros(shape, x.options());
  const Tensor flat = x.reshape({rows, K});
  if (own) return few_rows_product(flat, weight, scale).view(shape);
  if (narrow) return widened_product(flat, weight, scale).view(shape);
  const Tensor y = records_gradient({x, weight}) ? LinearFunction::apply(flat, weight) : onednn_product(flat, weight);
  return y.view(shape);
}

Tensors projections(const Tensor& x, at::TensorList weights) {
  for (const Tensor& weight : weights) check(x, weight, {});
  if (x.defined() && fits_own_kernel(x, weights)) return own_products(x, weights);
  Tensors y;
  for (const Tensor& weight : weights) y.push_back(kernels::linear(x, weight));
  return y;
}

}  // namespace klab::kernels
