// SPDX-License-Identifier: Apache-2.0
// The checks must be able to fail: operators with one mistake must fail the cells that the correct operators pass.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/check/matrix.h"
#include "kernels/common/support.h"
#include "kernels/norms/norms.h"
#include "kernels/recurrence/oracle.h"

namespace klab {
namespace {

using kernels::Implementation;

// Converts to the operator's dtypes and device, so that only the values are wrong.
NamedTensors as_promised(const OperatorCase& op, const NamedTensors& out, at::ScalarType dtype) {
  return copy_as(op, out, dtype, at::kCPU);
}

using Oracle = std::function<NamedTensors(const NamedTensors&, Mistake)>;

struct Wrong {
  std::string operator_name, workload;
  Oracle oracle;
  std::vector<Mistake> mistakes;
};

// Checks a cell with an oracle instead of the implementation, forward only.
CheckRow check_oracle(const Wrong& wrong, Mistake mistake, at::ScalarType dtype) {
  OperatorCase op = operator_case(wrong.operator_name);
  const NamedFunction definition = op.definition;
  op.run = [=, &wrong](Implementation, const NamedTensors& in) {
    // Outputs that the oracle does not compute are taken from the definition.
    NamedTensors out = copy_as(op, definition(in), dtype, at::kCPU);
    for (const auto& [name, tensor] : wrong.oracle(in, mistake)) out = with(out, name, tensor);
    return as_promised(op, out, dtype);
  };
  for (const Workload& workload : op.workloads) {
    if (workload.name == wrong.workload) {
      return check_cell(op, {Implementation::reference, /*differentiable=*/false}, dtype, workload);
    }
  }
  throw std::out_of_range(wrong.operator_name + " has no workload '" + wrong.workload + "'");
}

const std::vector<Wrong>& wrong_variants() {
  using enum Mistake;
  const Oracle l2 = [](const NamedTensors& in, Mistake mistake) { return l2norm_oracle(in, 1e-6, mistake); };
  const Oracle rms = [](const NamedTensors& in, Mistake mistake) { return rms_norm_oracle(in, 1e-5, mistake); };
  const auto gate = [](double lower_bound) {
    return [=](const NamedTensors& in, Mistake mistake) { return kda_gate_oracle(in, lower_bound, mistake); };
  };
  static const std::vector<Wrong> all{
      {"recurrence/none/accumulate",
       "odd sizes, grouped",
       recurrence_oracle,
       {read_before_write, scale_forgotten, heads_tiled}},
      {"recurrence/scalar/accumulate", "odd sizes, grouped", recurrence_oracle, {decay_late, heads_tiled}},
      {"recurrence/channel/accumulate", "packed", recurrence_oracle, {decay_late, sequences_mixed}},
      {"recurrence/none/delta", "odd sizes, grouped", recurrence_oracle, {erase_forgotten, beta_forgotten}},
      {"recurrence/scalar/delta",
       "odd sizes, grouped",
       recurrence_oracle,
       {decay_after_erase, beta_forgotten, heads_tiled, erase_forgotten}},
      {"recurrence/channel/delta",
       "odd sizes, grouped",
       recurrence_oracle,
       {read_before_write, decay_after_erase, scale_forgotten, heads_tiled, beta_forgotten, decay_late}},
      {"recurrence/channel/delta", "packed", recurrence_oracle, {initial_state_ignored, sequences_mixed}},
      {"recurrence/channel/delta", "resets", recurrence_oracle, {decay_after_erase, decay_late}},
      {"recurrence/none/dplr", "packed", recurrence_oracle, {erase_forgotten, initial_state_ignored}},
      {"recurrence/scalar/dplr", "odd sizes, grouped", recurrence_oracle, {a_reads_decayed, erase_forgotten}},
      {"recurrence/channel/dplr", "packed", recurrence_oracle, {a_reads_decayed, erase_forgotten, decay_late}},
      {"short_conv", "packed", short_conv_oracle, {taps_reversed, past_ignored, sequences_mixed, bias_forgotten}},
      {"l2norm", "odd sizes", l2, {eps_on_mean}},
      {"rms_norm", "odd sizes", rms, {weight_forgotten}},
      {"gated_rms_norm/sigmoid", "odd sizes", rms, {weight_forgotten, gate_forgotten}},
      {"kda_gate/softplus", "odd sizes", gate(0), {bias_forgotten}},
      {"kda_gate/lower_bound", "odd sizes", gate(-5), {clamped_gate, bias_forgotten}},
  };
  return all;
}

TEST(WrongVariants, TheRightOraclesPass) {
  for (const Wrong& wrong : wrong_variants()) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const CheckRow row = check_oracle(wrong, Mistake::none, dtype);
      EXPECT_TRUE(row.pass) << wrong.operator_name << " " << row.message;
    }
  }
}

TEST(WrongVariants, EveryMistakeFailsInFloatAndInBfloat) {
  for (const Wrong& wrong : wrong_variants()) {
    for (const Mistake mistake : wrong.mistakes) {
      for (const auto dtype : {at::kFloat, at::kBFloat16}) {
        const CheckRow row = check_oracle(wrong, mistake, dtype);
        EXPECT_FALSE(row.pass) << wrong.operator_name << " accepts mistake " << static_cast<int>(mistake);
        EXPECT_GT(row.ratio, 1);
        EXPECT_NE(row.message.find("beyond"), std::string::npos) << row.message;
      }
    }
  }
}

// --- Mistakes that any operator can have --------------------------------------------------------------------------

const Workload kSmall{"small", 2, 21, 2, 4, 6, 5, true, Gates::ordinary, true};

// Checks a cell of the operator with changed inputs or outputs.
CheckRow check_changed(const OperatorCase& op, const NamedFunction& change_inputs,
                       const NamedFunction& change_outputs) {
  OperatorCase changed = op;
  changed.run = [=](Implementation implementation, const NamedTensors& in) {
    return change_outputs(op.run(implementation, change_inputs(in)));
  };
  return check_cell(changed, op.forms.front(), at::kFloat, kSmall);
}

const NamedFunction kSame = [](const NamedTensors& tensors) { return tensors; };

NamedFunction on_first(const std::function<at::Tensor(const at::Tensor&)>& change) {
  return [=](NamedTensors tensors) {
    tensors.front().tensor = change(tensors.front().tensor);
    return tensors;
  };
}

TEST(WrongVariants, SpoiledOutputsFailForEveryOperator) {
  using at::Tensor;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto last_element = [](const Tensor& y, double value) {
    const Tensor mask = at::zeros_like(y, at::kBool);
    mask.view({-1})[-1] = true;
    return y.masked_fill(mask, value);
  };
  const std::vector<std::pair<std::string, NamedFunction>> spoilers{
      {"sign", on_first([](const Tensor& y) { return -y; })},
      {"stale", on_first([](const Tensor& y) { return y * 0; })},
      {"swapped", on_first([](const Tensor& y) { return y.roll(1, 1); })},
      {"a ten-thousandth", on_first([](const Tensor& y) { return y * 1.0001; })},
      {"NaN", on_first([&](const Tensor& y) { return last_element(y, nan); })},
      {"infinity", on_first([&](const Tensor& y) { return last_element(y, kInfinity); })},
      {"one element", on_first([&](const Tensor& y) { return last_element(y, 123); })},
      {"shape", on_first([](const Tensor& y) { return y.unsqueeze(0); })},
      {"dtype", on_first([](const Tensor& y) { return y.to(at::kDouble); })},
      {"missing", [](NamedTensors tensors) { return NamedTensors(tensors.begin() + 1, tensors.end()); }},
  };
  for (const OperatorCase& op : operator_cases()) {
    const CheckRow unchanged = check_changed(op, kSame, kSame);
    EXPECT_TRUE(unchanged.pass) << op.name << " " << unchanged.message;
    for (const auto& [name, spoil] : spoilers) {
      EXPECT_FALSE(check_changed(op, kSame, spoil).pass) << op.name << " accepts: " << name;
    }
  }
}

TEST(WrongVariants, AGradientThatStopsFailsForEveryInputOfEveryOperator) {
  for (const OperatorCase& op : operator_cases()) {
    if (!op.forms.front().differentiable) continue;
    for (const auto& [name, tensor] : op.inputs(kSmall, 1)) {
      if (!tensor.is_floating_point()) continue;
      if (op.name == "gated_rms_norm/none" && name == "gate") continue;  // nothing to stop
      const NamedFunction stop = [&, input = name](const NamedTensors& in) {
        return with(in, input, find(in, input).detach());
      };
      const CheckRow row = check_changed(op, stop, kSame);
      EXPECT_FALSE(row.pass) << op.name << " accepts no gradient for " << name;
      EXPECT_EQ(row.tensor, "d_" + name) << op.name;
    }
  }
}

TEST(WrongVariants, AGradientThatIsATenThousandthOffFails) {
  for (const OperatorCase& op : operator_cases()) {
    if (!op.forms.front().differentiable) continue;
    for (const auto& [name, tensor] : op.inputs(kSmall, 1)) {
      if (!tensor.is_floating_point()) continue;
      if (op.name == "gated_rms_norm/none" && name == "gate") continue;
      const NamedFunction bend = [&, input = name](const NamedTensors& in) {
        const at::Tensor x = find(in, input);
        return with(in, input,
                    x.detach() + (x - x.detach()) * 1.0001);  // the value of x, with 1.0001 times its gradient
      };
      EXPECT_FALSE(check_changed(op, bend, kSame).pass) << op.name << " accepts a bent gradient for " << name;
    }
  }
}

TEST(WrongVariants, AnOperatorThatThrowsIsAFailingRow) {
  OperatorCase op = operator_case("l2norm");
  op.run = [](Implementation, const NamedTensors&) -> NamedTensors { TORCH_CHECK(false, "no such thing"); };
  const CheckRow row = check_cell(op, op.forms.front(), at::kFloat, kSmall);
  EXPECT_FALSE(row.pass);
  EXPECT_NE(row.message.find("no such thing"), std::string::npos);
}

TEST(WrongVariants, ReadingPastTheEndOfAnInputShows) {
  OperatorCase op = operator_case("l2norm");
  op.run = [run = op.run](Implementation implementation, const NamedTensors& in) {
    const at::Tensor x = find(in, "x").detach();
    const at::Tensor shifted = x.as_strided(x.sizes(), x.strides(), x.storage_offset() + 1);
    return run(implementation, {{"x", shifted}});
  };
  const CheckRow row = check_cell(op, {Implementation::reference, /*differentiable=*/false}, at::kFloat, kSmall);
  EXPECT_NE(row.message.find("NaN"), std::string::npos) << row.message;
}

}  // namespace
}  // namespace klab
