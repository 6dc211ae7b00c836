// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/packing.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "kernels/common/kernel_choice.h"

namespace klab::kernels {

at::Tensor unpack(const at::Tensor& x, const std::vector<int64_t>& offsets) {
  int64_t longest = 0;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) longest = std::max(longest, offsets[i + 1] - offsets[i]);
  std::vector<at::Tensor> rows;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t length = offsets[i + 1] - offsets[i];
    std::vector<int64_t> padding(static_cast<size_t>(2 * (x.dim() - 1)), 0);
    padding.back() = longest - length;  // constant_pad_nd counts from the last dimension: this is time
    rows.push_back(at::constant_pad_nd(x[0].narrow(0, offsets[i], length), padding));
  }
  return at::stack(rows);
}

at::Tensor pack(const at::Tensor& x, const std::vector<int64_t>& offsets) {
  std::vector<at::Tensor> rows;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    rows.push_back(x[static_cast<int64_t>(i)].narrow(0, 0, offsets[i + 1] - offsets[i]));
  }
  return at::cat(rows).unsqueeze(0);
}

at::Tensor composed_rows(const at::Tensor& x, at::ScalarType dtype, const std::vector<int64_t>& offsets,
                         int64_t heads) {
  at::Tensor rows = x.to(dtype);
  if (!offsets.empty()) rows = unpack(rows, offsets);
  if (rows.dim() == 3) rows = rows.unsqueeze(-1);
  return rows.size(2) == heads ? rows : rows.repeat_interleave(heads / rows.size(2), 2);
}

Implementation choose_composed(const char* op, Implementation requested, const at::Tensor& x, int64_t tokens) {
  const UnsupportedReasons none{"there is no kernel", "there is no kernel"};
  const bool step = tokens == 1;
  return choose_implementation(op, requested, x, none,
                               {step ? Implementation::reference : Implementation::chunk,
                                step ? Implementation::chunk : Implementation::reference});
}

}  // namespace klab::kernels
