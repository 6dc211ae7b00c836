// SPDX-License-Identifier: Apache-2.0
// The position of a sequence in a batch.
#pragma once

#include <cstdint>

namespace klab::kernels::cpu {

/// Tokens [start, start + length) of batch row `row`.
struct Sequence {
  int64_t row, start, length;
};

}  // namespace klab::kernels::cpu
