// SPDX-License-Identifier: Apache-2.0
// CPU kernels of SwiGLU's activation, forward and backward.
#pragma once

#include <cstdint>

#include "kernels/common/rows.h"

namespace klab::kernels::cpu {

/// All tensors are contiguous and have `count` elements.
struct SwigluProblem {
  int64_t count = 0;
  Rows gate, up;
};

void swiglu_forward(const SwigluProblem& problem, const MutableRows& y);

void swiglu_backward(const SwigluProblem& problem, const Rows& d_y, const MutableRows& d_gate, const MutableRows& d_up);

}  // namespace klab::kernels::cpu
