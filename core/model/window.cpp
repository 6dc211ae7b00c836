// SPDX-License-Identifier: Apache-2.0
#include "core/model/window.h"

#include <torch/nn/module.h>

#include <algorithm>

namespace klab {
namespace {

using torch::Tensor;

// The rows of positions [from, from + count).
Tensor rows_at(int64_t from, int64_t count, const Tensor& rows) {
  return torch::arange(from, from + count, torch::TensorOptions(torch::kLong).device(rows.device()))
      .remainder(rows.size(1));
}

}  // namespace

Tensor with_window(const Span& span, const Tensor& x, const Tensor& rows) {
  const Tensor now = span.of(x);
  const int64_t count = std::min(span.past, rows.size(1) - 1);
  if (count == 0) return now;
  const Tensor own = rows.narrow(0, span.sequence, span.rows);
  return torch::cat({own.index_select(1, rows_at(span.past - count, count, rows)), now}, 1);
}

Tensor rows_after(const Span& span, const Tensor& rows) {
  return rows.narrow(0, span.sequence, span.rows).narrow(1, 0, std::min(span.past + 1, rows.size(1)));
}

Tensor moved_window(const std::vector<Span>& spans, const Tensor& x, const Tensor& rows) {
  const bool copies = torch::GradMode::is_enabled();
  std::vector<Tensor> moved;
  for (const Span& span : spans) {
    const int64_t count = std::min(span.tokens, rows.size(1)), skipped = span.tokens - count;
    const Tensor own = rows.narrow(0, span.sequence, span.rows), at = rows_at(span.past + skipped, count, rows);
    const Tensor latest = span.of(x).narrow(1, skipped, count);
    moved.push_back(copies ? own.index_copy(1, at, latest) : Tensor(own).index_copy_(1, at, latest));
  }
  return copies ? torch::cat(moved) : rows;
}

}  // namespace klab
