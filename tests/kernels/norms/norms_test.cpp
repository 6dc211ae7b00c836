// SPDX-License-Identifier: Apache-2.0
#include "kernels/norms/norms.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/check/matrix.h"
#include "kernels/common/support.h"
#include "kernels/recurrence/oracle.h"

namespace klab {
namespace {

using kernels::Implementation;

TEST(Norms, AreWhatPlainLoopsCompute) {
  for (const Workload& workload : operator_case("l2norm").workloads) {
    const auto inputs = [&](const std::string& name) { return operator_case(name).inputs(workload, 1); };
    const auto run = [&](const std::string& name) {
      return forward(runner(operator_case(name), Implementation::reference), inputs(name));
    };
    expect_close("l2norm", run("l2norm"), l2norm_oracle(inputs("l2norm"), 1e-6), tight());
    expect_close("rms_norm", run("rms_norm"), rms_norm_oracle(inputs("rms_norm"), 1e-5), tight());
    expect_close("gated", run("gated_rms_norm/sigmoid"), rms_norm_oracle(inputs("gated_rms_norm/sigmoid"), 1e-5),
                 tight());
  }
}

TEST(Norms, EveryWorkloadHoldsTheDerivedTolerance) {
  for (const CheckRow& row : run_matrix({.operators = "norm"})) {
    EXPECT_TRUE(row.pass) << row.operator_name << " " << row.implementation << " " << row.dtype << " " << row.workload
                          << "\n"
                          << row.message;
  }
}

TEST(Norms, DoubleInputsAreComputedInDouble) {
  // (3, 4) has norm 5; the factor 1 + 2^-40 would be lost in float32.
  const at::Tensor x = at::tensor({3.0, 4.0}, at::kDouble) * (1 + 0x1p-40), weight = at::ones({2}, at::kDouble);
  const auto is_exact = [](const at::Tensor& y, double expected) {
    EXPECT_NEAR(y[0].item<double>(), expected, 1e-15);
    EXPECT_NE(y[0].item<double>(), static_cast<double>(static_cast<float>(y[0].item<double>())));
  };
  is_exact(kernels::l2norm(x, 1e-30), 0.6);
  is_exact(kernels::rms_norm(x, weight, 1e-30), 0.6 * std::sqrt(2.0));
  is_exact(kernels::gated_rms_norm(x, weight, at::zeros_like(x), "sigmoid", 1e-30), 0.3 * std::sqrt(2.0));
}

TEST(Norms, ARowOfZerosGivesZerosAndFiniteGradients) {
  for (const char* name :
       {"l2norm", "rms_norm", "gated_rms_norm/sigmoid", "gated_rms_norm/swish", "rms_norm_of_gated"}) {
    const OperatorCase& op = operator_case(name);
    const NamedTensors in = copy_as(op, op.inputs({"", 1, 2, 1, 1, 8, 8}, 2), at::kFloat, at::kCPU);
    find(in, "x").zero_();
    for (const auto& [tensor_name, tensor] : evaluate(runner(op, Implementation::reference), in)) {
      EXPECT_TRUE(at::isfinite(tensor).all().item<bool>()) << name << " " << tensor_name;
      EXPECT_TRUE(tensor_name != "y" || tensor.eq(0).all().item<bool>()) << name;
    }
  }
}

TEST(Norms, LargeHalvesDoNotOverflowInTheSquare) {
  const at::Tensor x = at::full({1, 64}, 6e4, at::kHalf), weight = at::ones({64}, at::kHalf);
  EXPECT_EQ(kernels::l2norm(x)[0][0].item<double>(), 0.125);
  EXPECT_EQ(kernels::rms_norm(x, weight)[0][0].item<double>(), 1);
  EXPECT_EQ(kernels::gated_rms_norm(x, weight, x, "sigmoid")[0][0].item<double>(), 1);
}

TEST(Norms, AnOpenGateIsNoGate) {
  const OperatorCase& op = operator_case("gated_rms_norm/sigmoid");
  const NamedTensors in = op.inputs({"", 1, 5, 2, 2, 12, 12}, 3);
  const at::Tensor x = find(in, "x"), weight = find(in, "weight"), open = at::full_like(x, 1000.0);
  const at::Tensor plain = kernels::rms_norm(x, weight);
  expect_close("sigmoid", kernels::gated_rms_norm(x, weight, open, "sigmoid"), plain, {});
  expect_close("none", kernels::gated_rms_norm(x, weight, -open, "none"), plain, {});
  expect_close("swish", kernels::gated_rms_norm(x, weight, open, "swish"), plain * 1000, tight());
  const at::Tensor closed = kernels::gated_rms_norm(x, weight, -open, "sigmoid");
  EXPECT_EQ(closed.abs().max().item<double>(), 0);
}

TEST(Norms, OneRowDoesNotTouchAnother) {
  const OperatorCase& op = operator_case("gated_rms_norm/sigmoid");
  const NamedTensors in = copy_as(op, op.inputs({"", 1, 9, 2, 2, 60, 60}, 4), at::kFloat, at::kCPU);
  const at::Tensor changed = find(in, "x").clone();
  changed.narrow(1, 4, 5).fill_(std::numeric_limits<double>::quiet_NaN());
  const NamedFunction run = runner(op, Implementation::reference);
  expect_close("before", find(forward(run, with(in, "x", changed)), "y").narrow(1, 0, 4),
               find(forward(run, in), "y").narrow(1, 0, 4), {});
}

TEST(Norms, RefuseWrongArgumentsByName) {
  const at::Tensor x = at::ones({2, 4}), weight = at::ones({4}), wrong = at::ones({3});
  const at::Tensor integers = at::ones({2, 4}, at::kLong);
  expect_refused("l2norm", "x", [&] { kernels::l2norm(at::Tensor()); });
  expect_refused("l2norm", "x", [&] { kernels::l2norm(at::ones({})); });
  expect_refused("l2norm", "x has dtype", [&] { kernels::l2norm(integers); });
  expect_refused("rms_norm", "x", [&] { kernels::rms_norm(at::Tensor(), weight); });
  expect_refused("rms_norm", "x has dtype", [&] { kernels::rms_norm(integers, weight); });
  expect_refused("rms_norm", "weight has shape", [&] { kernels::rms_norm(x, wrong); });
  expect_refused("rms_norm", "weight is missing", [&] { kernels::rms_norm(x, at::Tensor()); });
  const auto gated = [&](const at::Tensor& w, const at::Tensor& gate, const std::string& activation) {
    return [=] { kernels::gated_rms_norm(x, w, gate, activation); };
  };
  expect_refused("gated_rms_norm", "weight has shape", gated(wrong, x, "sigmoid"));
  expect_refused("gated_rms_norm", "gate is missing", gated(weight, at::Tensor(), "sigmoid"));
  expect_refused("gated_rms_norm", "gate has shape", gated(weight, at::ones({2, 3}), "sigmoid"));
  expect_refused("gated_rms_norm", "gate has dtype", gated(weight, integers, "sigmoid"));
  expect_refused("gated_rms_norm", "activation 'tanh'", gated(weight, x, "tanh"));
  expect_refused("rms_norm_of_gated", "gate has shape", [&] {
    kernels::rms_norm_of_gated(x, weight, at::ones({2, 3}));
  });
}

TEST(Norms, AnImplementationThatCannotRunIsRefusedNotReplaced) {
  const at::Tensor x = at::ones({2, 4}), weight = at::ones({4});
  for (const Implementation implementation : {Implementation::cuda, Implementation::chunk, Implementation::composed}) {
    EXPECT_THROW(kernels::gated_rms_norm(x, weight, x, "sigmoid", 1e-5, implementation), c10::NotImplementedError);
    EXPECT_THROW(kernels::rms_norm(x, weight, 1e-5, implementation), c10::NotImplementedError);
    EXPECT_THROW(kernels::l2norm(x, 1e-6, implementation), c10::NotImplementedError);
  }
  EXPECT_THROW(kernels::l2norm(x, 1e-6, Implementation::cpu), c10::NotImplementedError);
}

}  // namespace
}  // namespace klab
