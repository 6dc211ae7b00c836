// SPDX-License-Identifier: Apache-2.0
// Calls the CUDA kernels of the norms on tensors. Nothing here synchronises with the device.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/common/cuda/backend.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/norms/norms_fused.h"

namespace klab::kernels {
namespace {

using at::Tensor;

// The kernels need one dtype for all tensors of x's shape.
NormInputs in_one_dtype(NormInputs in) {
  if (in.gate.defined()) in.gate = in.gate.to(in.x.scalar_type());
  return in;
}

Tensor forward(const NormInputs& in) {
  const c10::OptionalDeviceGuard guard(in.x.device());
  const PlainNorm plain(in_one_dtype(in));
  const Tensor y = at::empty(in.x.sizes(), in.x.options());
  const cuda::Backend& cuda = cuda::backend();
  cuda.norm_forward(plain.problem, mutable_norm_rows(y), cuda.stream(in.x.device()));
  return y;
}

NormInputs backward(const NormInputs& in, const Tensor& d_y) {
  const c10::OptionalDeviceGuard guard(in.x.device());
  const PlainNorm plain(in_one_dtype(in));
  const cuda::Backend& cuda = cuda::backend();
  NormInputs d;
  d.x = at::empty(in.x.sizes(), in.x.options());
  if (in.gate.defined()) d.gate = at::empty(in.x.sizes(), in.x.options());
  Tensor space;
  if (in.weight.defined()) {
    d.weight = at::empty(in.weight.sizes(), in.weight.options().dtype(at::kFloat));
    space = workspace(cuda.norm_backward_workspace(plain.problem), in.x);
  }
  cuda.norm_backward(plain.problem, norm_rows(d_y),
                     {mutable_norm_rows(d.x), mutable_norm_rows(d.gate), floats(d.weight)},
                     space.defined() ? space.data_ptr() : nullptr, cuda.stream(in.x.device()));
  if (in.weight.defined()) d.weight = d.weight.to(in.weight.scalar_type());
  if (in.gate.defined()) d.gate = d.gate.to(in.gate.scalar_type());
  return d;
}

}  // namespace

const FusedNorm cuda_norm{forward, backward};

}  // namespace klab::kernels
