// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/kernel_tensors.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "kernels/common/cpu/built.h"
#include "kernels/common/cpu/workers.h"

namespace klab::kernels {
namespace {

using at::Tensor;

Dtype dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat: return Dtype::float32;
    case at::kBFloat16: return Dtype::bfloat16;
    default: return Dtype::float16;
  }
}

template <typename View>
View view_of(const Tensor& x) {
  if (!x.defined()) return {};
  return {x.data_ptr(), x.stride(0), x.stride(1), x.stride(2), dtype_of(x)};
}

template <typename View>
View flat_view_of(const Tensor& x) {
  if (!x.defined()) return {};
  return {x.data_ptr(), x.stride(0), x.stride(1), 0, dtype_of(x)};
}

}  // namespace

std::string cpu_unsupported_reason(at::TensorList tensors) {
  if (!cpu::built()) return "this build has no CPU kernels (KLAB_CPU_KERNELS=off when it was configured)";
  for (const Tensor& x : tensors) {
    if (!x.defined()) continue;
    if (!x.is_cpu()) return "a tensor is not on the CPU";
    if (x.scalar_type() == at::kDouble) return "it computes in float32 and a tensor is float64";
  }
  return "";
}

bool records_gradient(at::TensorList tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const Tensor& x : tensors) {
    if (x.defined() && x.requires_grad()) return true;
  }
  return false;
}

Tensor with_plain_rows(const Tensor& x) {
  if (!x.defined() || x.size(-1) == 1 || x.stride(-1) == 1) return x;
  return x.contiguous();
}

Tensor plain_float(const Tensor& x) { return x.defined() ? x.to(at::kFloat).contiguous() : x; }

float* floats(const Tensor& x) { return x.defined() && x.numel() > 0 ? x.data_ptr<float>() : nullptr; }

Rows rows_of(const Tensor& x) { return view_of<Rows>(x); }
MutableRows mutable_rows_of(const Tensor& x) { return view_of<MutableRows>(x); }
Rows flat_rows_of(const Tensor& x) { return flat_view_of<Rows>(x); }
MutableRows mutable_flat_rows_of(const Tensor& x) { return flat_view_of<MutableRows>(x); }

Tensor workspace(size_t bytes, const Tensor& like) {
  return at::empty({static_cast<int64_t>(bytes)}, like.options().dtype(at::kByte));
}

Tensor float_workspace(int64_t floats, const Tensor& like) {
  return at::empty({floats}, like.options().dtype(at::kFloat));
}

Tensor empty_result(at::IntArrayRef shape, const at::TensorOptions& options) {
  const Tensor x = at::empty(shape, options);
  if (x.is_cpu()) cpu::advise_large_pages(x.data_ptr(), x.nbytes());
  return x;
}

Tensor empty_result_like(const Tensor& x) { return x.defined() ? empty_result(x.sizes(), x.options()) : x; }

std::vector<cpu::Sequence> sequences_of(int64_t B, int64_t T, const std::vector<int64_t>& offsets) {
  std::vector<cpu::Sequence> all;
  if (offsets.empty()) {
    for (int64_t row = 0; row < B; ++row) all.push_back({row, 0, T});
  }
  for (size_t n = 0; n + 1 < offsets.size(); ++n) all.push_back({0, offsets[n], offsets[n + 1] - offsets[n]});
  return all;
}

Tensor sum_rows(const Tensor& x) {
  Tensor total = at::zeros(x.sizes().slice(1), x.options());
  const int64_t rows = x.size(0), width = total.numel();
  const float* from = x.data_ptr<float>();
  float* to = total.data_ptr<float>();
  for (int64_t n = 0; n < rows; ++n) {
    for (int64_t i = 0; i < width; ++i) to[i] += from[n * width + i];
  }
  return total;
}

}  // namespace klab::kernels
