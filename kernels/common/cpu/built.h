// Whether this build has the CPU kernels: they need Highway, which a machine may lack that only wants those of CUDA.
#pragma once

namespace klab::kernels::cpu {

bool built();

}  // namespace klab::kernels::cpu
