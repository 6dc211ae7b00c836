// Memory for weights that are read from end to end for every token.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>

namespace klab {

/// Hands out tensors from few large pieces of memory, for which the system is asked for large pages: matrices of a
/// megabyte, each on its own, would lie in small ones, and the processor stops reading ahead at the end of every page.
/// A piece lives as long as any tensor in it.
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
