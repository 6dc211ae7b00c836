// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/checks.h"

#include <ATen/ATen.h>

#include "kernels/common/implementation.h"

namespace klab::kernels {

std::string to_string(Implementation implementation) {
  switch (implementation) {
    case Implementation::automatic: return "automatic";
    case Implementation::reference: return "reference";
    case Implementation::composed: return "composed";
    case Implementation::chunk: return "chunk";
    case Implementation::cpu: return "cpu";
    case Implementation::cuda: return "cuda";
  }
  TORCH_CHECK(false, "not an implementation: ", static_cast<int>(implementation));
}

void check_tensor(const char* op, const char* name, const at::Tensor& tensor, at::IntArrayRef shape,
                  const at::Tensor& like) {
  TORCH_CHECK_VALUE(tensor.defined(), op, ": ", name, " is missing");
  TORCH_CHECK_VALUE(at::isFloatingType(tensor.scalar_type()), op, ": ", name, " has dtype ", tensor.scalar_type(),
                    ", but must be float64, float32, bfloat16 or float16");
  TORCH_CHECK_VALUE(tensor.device() == like.device(), op, ": ", name, " is on ", tensor.device(),
                    ", but the first input is on ", like.device());
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; fits && i < shape.size(); ++i)
    fits = shape[i] < 0 || tensor.size(static_cast<int64_t>(i)) == shape[i];
  TORCH_CHECK_VALUE(fits, op, ": ", name, " has shape ", tensor.sizes(), ", but must have ", shape,
                    " (-1 stands for any size)");
}

void check_sequence_offsets(const char* op, const at::Tensor& cu_seqlens, int64_t batch) {
  TORCH_CHECK_VALUE(cu_seqlens.dim() == 1 && cu_seqlens.numel() >= 2 &&
                        at::isIntegralType(cu_seqlens.scalar_type(), /*includeBool=*/false),
                    op, ": cu_seqlens must be a list of at least two integer offsets, but has shape ",
                    cu_seqlens.sizes(), " and dtype ", cu_seqlens.scalar_type());
  TORCH_CHECK_VALUE(batch == 1, op, ": packed sequences (cu_seqlens) need a batch of 1, but the batch is ", batch);
}

std::vector<int64_t> sequence_offsets(const char* op, const at::Tensor& cu_seqlens, int64_t batch, int64_t time) {
  if (!cu_seqlens.defined()) return {};
  check_sequence_offsets(op, cu_seqlens, batch);
  const at::Tensor host = cu_seqlens.to(at::kCPU, at::kLong).contiguous();
  std::vector<int64_t> offsets(host.data_ptr<int64_t>(), host.data_ptr<int64_t>() + host.numel());
  TORCH_CHECK_VALUE(offsets.front() == 0 && offsets.back() == time, op, ": cu_seqlens must run from 0 to T = ", time,
                    ", but runs from ", offsets.front(), " to ", offsets.back());
  for (size_t i = 1; i < offsets.size(); ++i) {
    TORCH_CHECK_VALUE(offsets[i - 1] < offsets[i], op, ": cu_seqlens must rise, but entry ", i - 1, " is ",
                      offsets[i - 1], " and entry ", i, " is ", offsets[i]);
  }
  return offsets;
}

at::ScalarType accumulation_type(at::ScalarType input) { return input == at::kDouble ? at::kDouble : at::kFloat; }

}  // namespace klab::kernels
