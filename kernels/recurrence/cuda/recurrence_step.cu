// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_step.cuh"

#include <algorithm>

#include "kernels/recurrence/cuda/forward_plan.h"

namespace klab::kernels::cuda {

void recurrence_step(const Problem& p, const MutableRows& o, float* final_state, float* all_states, void* stream) {
  record_step_plan();
  const auto of_tokens = [&]<bool kOne>() {
    return p.K <= 64 ? step_kernel<64, kOne> : p.K <= 128 ? step_kernel<128, kOne> : step_kernel<256, kOne>;
  };
  const bool one = p.sequences.offsets == nullptr && p.sequences.tokens == 1;
  const auto kernel = one ? of_tokens.operator()<true>() : of_tokens.operator()<false>();
  const auto blocks = static_cast<unsigned>((p.V + kStepColumns - 1) / kStepColumns);
  constexpr int64_t kMost = 65535;  // blocks along z
  for (int64_t first = 0; first < p.sequences.count; first += kMost) {
    const auto sequences = static_cast<unsigned>(std::min(kMost, p.sequences.count - first));
    const StepTask task{p, o, final_state, all_states, first, static_cast<unsigned>(p.HV / p.H)};
    launch(kernel, dim3(blocks, static_cast<unsigned>(p.HV), sequences), kStepThreads, sizeof(TokenVectors),
           static_cast<Stream>(stream), task);
  }
}

}  // namespace klab::kernels::cuda
