// SPDX-License-Identifier: Apache-2.0
// Memory for weights, all of which are read for every token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>

namespace klab {

/// Allocates tensors from a few large blocks of memory with huge pages. Separate allocations of about a megabyte would
/// use small pages, and hardware prefetching stops at every page boundary. A block is freed with its last tensor.
class WeightMemory {
 public:
  /// Like at::empty() on the CPU, aligned to 64 bytes.
  at::Tensor empty(at::IntArrayRef shape, at::ScalarType dtype);

 private:
  struct Piece;
  std::shared_ptr<Piece> piece_;
  size_t used_ = 0;
};

}  // namespace klab
