// Which code computes an operator.
#pragma once

#include <string>

#include "kernels/common/export.h"

namespace klab::kernels {

/// `automatic` is the fastest one that can run on the given tensors. Any other one runs or throws; it is never
/// replaced.
enum class Implementation {
  automatic,
  reference,  ///< the definition, step by step, differentiable, in the dtype of its inputs
  composed,   ///< of ATen's operators, differentiable
  chunk,      ///< chunkwise form composed of ATen products, differentiable
  cpu,        ///< hand-written CPU kernel, vectorised and threaded
  cuda,       ///< hand-written CUDA kernel
};

KLAB_API std::string to_string(Implementation implementation);

}  // namespace klab::kernels
