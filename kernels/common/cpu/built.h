// SPDX-License-Identifier: Apache-2.0
// Whether this build has the CPU kernels. They need Highway, which a CUDA-only build may not have.
#pragma once

namespace klab::kernels::cpu {

bool built();

}  // namespace klab::kernels::cpu
