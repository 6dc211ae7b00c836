// SPDX-License-Identifier: Apache-2.0
// Stubs of the CPU kernels for a build without them (KLAB_CPU_KERNELS=off).
#include <c10/util/Exception.h>

#include "kernels/attention/cpu/latent_attention.h"
#include "kernels/common/cpu/built.h"
#include "kernels/linear/cpu/experts.h"
#include "kernels/linear/cpu/shared_input.h"
#include "kernels/norms/cpu/norms.h"
#include "kernels/recurrence/cpu/recurrence.h"
#include "kernels/short_conv/cpu/short_conv.h"
#include "kernels/swiglu/cpu/swiglu.h"

namespace klab::kernels::cpu {
namespace {

[[noreturn]] void missing() {
  TORCH_CHECK_NOT_IMPLEMENTED(false, "this build has no CPU kernels (KLAB_CPU_KERNELS=off when it was configured)");
}

}  // namespace

bool built() { return false; }

std::vector<int64_t> segment_offsets(const std::vector<Sequence>&) { missing(); }
void forward(const Problem&, const MutableRows&, float*, const Kept&) { missing(); }
void backward(const Problem&, const Rows&, const float*, const Kept&, const Gradients&) { missing(); }
void step(const Problem&, const MutableRows&, float*) { missing(); }
void short_conv_forward(const ShortConvProblem&, const MutableRows&, const MutableRows&) { missing(); }
void short_conv_backward(const ShortConvProblem&, const Rows&, const Rows&, const ShortConvGradients&) { missing(); }
void gated_rms_norm_forward(const NormProblem&, const MutableRows&) { missing(); }
void gated_rms_norm_backward(const NormProblem&, const Rows&, const NormGradients&) { missing(); }
void swiglu_forward(const SwigluProblem&, const MutableRows&) { missing(); }
void swiglu_backward(const SwigluProblem&, const Rows&, const MutableRows&, const MutableRows&) { missing(); }
int64_t latent_workspace(const LatentProblem&) { missing(); }
void latent_attention(const LatentProblem&, float*) { missing(); }
void product(const ProductProblem&) { missing(); }
void add_rows(const AddRowsProblem&) { missing(); }
int64_t shared_input_workspace(const SharedInputProblem&) { missing(); }
void shared_input_forward(const SharedInputProblem&, const float*, const std::vector<float*>&, float*) { missing(); }
void shared_input_gradient(const SharedInputProblem&, const std::vector<const float*>&, float*, float*) { missing(); }
void shared_input_weight_gradients(const SharedInputProblem&, const float*, const std::vector<const float*>&,
                                   const std::vector<float*>&, float*) {
  missing();
}
int64_t experts_workspace(const ExpertsProblem&) { missing(); }
void experts(const ExpertsProblem&, float*) { missing(); }

}  // namespace klab::kernels::cpu
