// SPDX-License-Identifier: Apache-2.0
// Counts executed matrix products.
#pragma once

#include <ATen/record_function.h>

#include <cstdint>
#include <memory>

namespace klab {

/// During its lifetime, sums the FLOPs of all matrix products of many rows and fused attention in forward passes: 2 per
/// multiply-add, half of the square for causal attention. Only one instance at a time.
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
