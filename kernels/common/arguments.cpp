// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/arguments.h"

#include <c10/util/Exception.h>

namespace klab::kernels {

void Sizes::check(const char* op, const TensorArgument& argument, const at::Tensor& x, const at::Tensor& first) {
  const Shape& shape = argument.shape;
  const bool shorter = shape.last_is_optional && x.defined() && x.dim() == shape.rank - 1;
  const auto rank = static_cast<size_t>(shorter ? shape.rank - 1 : shape.rank);
  std::array<int64_t, std::tuple_size_v<decltype(shape.sizes)>> expected{};
  for (size_t i = 0; i < rank; ++i) expected[i] = (*this)[shape.sizes[i]];
  check_tensor(op, argument.name, x, at::IntArrayRef(expected.data(), rank), first);
  for (size_t i = 0; i < rank; ++i) {
    sizes_[static_cast<size_t>(shape.sizes[i])] = x.size(static_cast<int64_t>(i));
  }
}

}  // namespace klab::kernels
