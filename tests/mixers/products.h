// Counts the matrix products that are really done.
#pragma once

#include <ATen/record_function.h>

#include <cstdint>
#include <memory>

namespace klab {

/// While one lives, every matrix product and fused attention of a forward pass that ATen runs adds its FLOPs: 2 for
/// each multiply-add, half of the square for causal attention. Only one at a time.
class ProductCounter {
 public:
  ProductCounter();
  ~ProductCounter();
  ProductCounter(const ProductCounter&) = delete;
  ProductCounter& operator=(const ProductCounter&) = delete;

  double flops() const;
  int64_t calls() const;

 private:
  at::CallbackHandle handle_;
};

}  // namespace klab
