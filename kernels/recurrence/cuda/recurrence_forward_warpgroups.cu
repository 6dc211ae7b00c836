// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {
namespace {

template <class Operand, bool kDplr>
void launch_width(const ForwardTask& task, Stream stream) {
  const auto run = [&]<int kWidth>() {
    using F = Forward<Operand, kDplr, kWidth>;
    F::launch_walk(forward_kernel<Operand, kDplr, kWidth>, task, stream);
  };
  task.p.K <= 64 ? run.template operator()<64>() : run.template operator()<128>();
}

template <class Format>
void launch_format(const ForwardTask& task, Stream stream) {
  task.p.update == Update::dplr ? launch_width<WarpgroupOperand<Format>, true>(task, stream)
                                : launch_width<WarpgroupOperand<Format>, false>(task, stream);
}

}  // namespace

void launch_forward_warpgroups(const ForwardTask& task, Stream stream) {
  task.p.v.dtype == Dtype::bfloat16 ? launch_format<Bfloat16>(task, stream) : launch_format<Float16>(task, stream);
}

}  // namespace klab::kernels::cuda
