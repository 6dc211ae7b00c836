// SPDX-License-Identifier: Apache-2.0
#include "kernels/swiglu/swiglu.h"

#include <ATen/ATen.h>

#include "kernels/common/checks.h"
#include "kernels/common/kernel_choice.h"
#include "kernels/common/kernel_tensors.h"
#include "kernels/common/operator.h"
#include "kernels/swiglu/cpu/swiglu.h"

namespace klab::kernels {

struct SwigluInputs {
  at::Tensor gate{}, up{};  ///< [.., M]
};

template <InputsOf<SwigluInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  visit(TensorArgument{"gate", Role::operand, /*required=*/true}, in.gate);
  visit(TensorArgument{"up", Role::operand, /*required=*/true}, in.up);
}

namespace {

using at::Tensor;

constexpr const char* kOp = "swiglu";

void check(const SwigluInputs& in) {
  TORCH_CHECK_VALUE(in.gate.defined(), kOp, ": gate is missing");
  check_tensor(kOp, "gate", in.gate, in.gate.sizes(), in.gate);
  check_tensor(kOp, "up", in.up, in.gate.sizes(), in.gate);
  TORCH_CHECK_VALUE(in.up.scalar_type() == in.gate.scalar_type(), kOp, ": up has dtype ", in.up.scalar_type(),
                    ", but gate has ", in.gate.scalar_type());
}

Implementation choose(const SwigluInputs& in, Implementation requested) {
  if (requested == Implementation::automatic && in.gate.is_cuda()) return Implementation::composed;
  const UnsupportedReasons unsupported{"there is none", cpu_unsupported_reason({in.gate, in.up})};
  return choose_implementation(kOp, requested, in.gate, unsupported,
                               {Implementation::reference, Implementation::composed});
}

Tensor reference(const SwigluInputs& in) {
  const at::ScalarType wide = accumulation_type(in.gate.scalar_type());
  return (at::silu(in.gate.to(wide)) * in.up.to(wide)).to(in.gate.scalar_type());
}

Rows elements(const Tensor& x) { return flat_rows_of(x.view({1, 1, -1})); }
MutableRows mutable_elements(const Tensor& x) { return mutable_flat_rows_of(x.view({1, 1, -1})); }

Tensor forward_on_cpu(const SwigluInputs& in) {
  const Tensor gate = in.gate.contiguous(), up = in.up.contiguous();
  const Tensor y = empty_result(gate.sizes(), gate.options());
  cpu::swiglu_forward({gate.numel(), elements(gate), elements(up)}, mutable_elements(y));
  return y;
}

SwigluInputs backward_on_cpu(const SwigluInputs& in, const Tensor& given_d_y) {
  const Tensor gate = in.gate.contiguous(), up = in.up.contiguous(), d_y = given_d_y.contiguous();
  const SwigluInputs d{empty_result(gate.sizes(), gate.options()), empty_result(gate.sizes(), gate.options())};
  cpu::swiglu_backward({gate.numel(), elements(gate), elements(up)}, elements(d_y), mutable_elements(d.gate),
                       mutable_elements(d.up));
  return d;
}

// --- The operators klab::swiglu and klab::swiglu_backward ---------------------------------------------------------

struct SwigluOperator {
  using Inputs = SwigluInputs;
  static constexpr const char* kName = kOp;
  static constexpr std::array kOutputs = {"y"};
  static constexpr std::array<const char*, 0> kKept{};
  static constexpr const char* kDerivatives =
      "differentiable once; second derivatives are those of the C++ implementations 'reference' and 'composed'";

  static Tensors forward(const Inputs& in, Implementation implementation, bool) {
    return {swiglu(in.gate, in.up, implementation)};
  }

  static Tensors shapes(const Inputs& in, Implementation, bool) { return {shaped_like(in.gate)}; }

  static std::optional<Inputs> backward(const Inputs& in, Implementation implementation, at::TensorList,
                                        at::TensorList d_outputs) {
    if (choose(in, implementation) != Implementation::cpu) return std::nullopt;
    return d_outputs[0].defined() ? backward_on_cpu(in, d_outputs[0]) : Inputs{};
  }
};

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up, Implementation implementation) {
  const SwigluInputs in{gate, up};
  check(in);
  const Implementation chosen = choose(in, implementation);
  if (chosen == Implementation::composed) return at::silu(gate) * up;
  if (chosen == Implementation::reference) return reference(in);
  return records_gradient(in) ? call_operator<SwigluOperator>({in, chosen}).front() : forward_on_cpu(in);
}

std::vector<Implementation> swiglu_implementations() {
  return {Implementation::reference, Implementation::composed, Implementation::cpu};
}

}  // namespace klab::kernels

TORCH_LIBRARY_FRAGMENT(klab, library) { klab::kernels::register_operator<klab::kernels::SwigluOperator>(library); }
