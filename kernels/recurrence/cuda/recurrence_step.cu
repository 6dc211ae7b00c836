// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_step.cuh"

#include "kernels/recurrence/cuda/forward_plan.h"

namespace klab::kernels::cuda {

void recurrence_step(const Problem& p, const MutableRows& o, float* final_state, float* all_states, void* stream) {
  record_step_plan();
  const StepTask task{p, o, final_state, all_states};
  const int64_t blocks = p.sequences.count * p.HV * ((p.V + kStepColumns - 1) / kStepColumns);
  const auto kernel = p.K <= 64 ? step_kernel<64> : p.K <= 128 ? step_kernel<128> : step_kernel<256>;
  launch(kernel, dim3(static_cast<unsigned>(blocks)), kStepThreads, sizeof(TokenVectors), static_cast<Stream>(stream),
         task);
}

}  // namespace klab::kernels::cuda
