// SPDX-License-Identifier: Apache-2.0
// The implementations of an operator.
#pragma once

#include <string>

#include "kernels/common/export.h"

namespace klab::kernels {

/// `automatic` is the fastest implementation that can run on the given tensors. Any other value either runs or throws;
/// there is no fallback.
enum class Implementation {
  automatic,
  reference,  ///< the definition, step by step, differentiable
  composed,   ///< composed of ATen operators, differentiable
  chunk,      ///< chunkwise form composed of ATen products, differentiable
  cpu,        ///< hand-written CPU kernel, vectorised and threaded
  cuda,       ///< hand-written CUDA kernel
};

KLAB_API std::string to_string(Implementation implementation);

}  // namespace klab::kernels
