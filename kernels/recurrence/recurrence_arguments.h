// SPDX-License-Identifier: Apache-2.0
// The argument list of the recurrence, used by checks, autograd, the dispatcher and the kernels.
#pragma once

#include "kernels/common/arguments.h"
#include "kernels/recurrence/recurrence.h"

namespace klab::kernels {

template <InputsOf<RecurrenceInputs> Self, class Visit>
void each_argument(Self& in, Visit&& visit) {
  using enum Size;
  RecurrenceGate gate = in.gate.value_or(RecurrenceGate{});
  bool has_gate = in.gate.has_value();
  visit(TensorArgument{"q", Role::operand, /*required=*/true, Shape(B, T, H, K)}, in.q);
  visit(TensorArgument{"k", Role::operand, /*required=*/true, Shape(B, TW, H, K)}, in.k);
  visit(TensorArgument{"v", Role::operand, /*required=*/true, Shape(B, TW, HV, V)}, in.v);
  visit(TensorArgument{"g", Role::gate, false, Shape(B, T, HV, K).or_without_last()}, in.g);
  visit(TensorArgument{"beta", Role::gate, false, Shape(B, TW, HV)}, in.beta);
  visit(TensorArgument{"a", Role::operand, false, Shape(B, TW, HV, K)}, in.a);
  visit(TensorArgument{"b", Role::operand, false, Shape(B, TW, HV, K)}, in.b);
  visit(TensorArgument{"initial_state", Role::state, false, Shape(N, HV, K, V)}, in.initial_state);
  visit(TensorArgument{"cu_seqlens", Role::offsets}, in.cu_seqlens);
  visit(TensorArgument{"A_log", Role::parameter}, gate.A_log);      // with a gate, check_kda_gate()
  visit(TensorArgument{"dt_bias", Role::parameter}, gate.dt_bias);  // checks these two
  visit(Option{"scale"}, in.scale);
  visit(Option{"qk_l2norm"}, in.qk_l2norm);
  visit(Option{"gate"}, has_gate);
  visit(Option{"lower_bound"}, gate.lower_bound);
  visit(Option{"beta_sigmoid"}, in.beta_sigmoid);
  visit(Option{"allow_neg_eigval"}, in.allow_neg_eigval);
  visit(Option{"writes", "1"}, in.writes);
  if constexpr (!std::is_const_v<Self>) {
    if (has_gate) in.gate = std::move(gate);
    if (!has_gate) in.gate.reset();
  }
}

}  // namespace klab::kernels
