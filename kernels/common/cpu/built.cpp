// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/cpu/built.h"

namespace klab::kernels::cpu {

bool built() { return true; }

}  // namespace klab::kernels::cpu
