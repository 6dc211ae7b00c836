// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/operator_times.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace klab {
namespace {

OperatorCall forward(const std::string& name) { return {name, 1, false}; }
OperatorCall backward(const std::string& name) { return {name, 1, true}; }

TEST(PartsOfAStep, AreBoundedByTheLastNormAndTheBackwardPass) {
  using enum StepPart;
  EXPECT_EQ(
      parts_of({forward("aten::zero_"), forward("klab::gated_rms_norm"), forward("klab::swiglu"),
                forward("klab::gated_rms_norm"), forward("klab::linear"), forward("aten::_log_softmax"),
                backward("aten::nll_loss_backward"), backward("klab::linear_backward"),
                backward("klab::gated_rms_norm_backward"), backward("klab::gated_rms_norm_backward"),
                backward("aten::embedding_dense_backward"), forward("aten::mul_"), forward("aten::_fused_adamw_")}),
      (std::vector{model, model, model, model, loss, loss, loss, loss, model, model, model, optimiser, optimiser}));
}

TEST(PartsOfAStep, ANormThatIsComputedAgainInTheBackwardPassEndsNothing) {
  using enum StepPart;
  EXPECT_EQ(
      parts_of({forward("klab::gated_rms_norm"), forward("aten::argmax"), backward("klab::gated_rms_norm_backward"),
                backward("klab::gated_rms_norm"), backward("klab::swiglu")}),
      (std::vector{model, loss, model, model, model}));
}

TEST(PartsOfAStep, WithoutABackwardPassAllIsTheModel) {
  EXPECT_EQ(parts_of({forward("klab::gated_rms_norm"), forward("aten::mm")}), (std::vector(2, StepPart::model)));
  EXPECT_TRUE(parts_of({}).empty());
}

TEST(CategoryOf, GoesByThePartOfTheStepAndTheName) {
  const auto in_model = [](const char* name) { return category_of(StepPart::model, name); };
  EXPECT_EQ(in_model("klab::linear_backward"), "products");
  EXPECT_EQ(in_model("mkldnn::_linear_pointwise"), "products");
  EXPECT_EQ(in_model("aten::mm"), "products");
  EXPECT_EQ(in_model("klab::recurrence_backward"), "recurrence");
  EXPECT_EQ(in_model("aten::_scaled_dot_product_flash_attention_for_cpu"), "attention");
  EXPECT_EQ(in_model("klab::short_conv"), "other klab operators");
  EXPECT_EQ(in_model("aten::mul"), "elementwise");
  EXPECT_EQ(in_model("aten::cat"), "other ATen");
  EXPECT_EQ(category_of(StepPart::loss, "aten::mul"), "loss");
  EXPECT_EQ(category_of(StepPart::loss, "klab::linear"), "products");
  EXPECT_EQ(category_of(StepPart::optimiser, "aten::mul_"), "optimiser");
}

TEST(CategoryOf, IsAmongTheCategories) {
  const auto& all = time_categories();
  for (const char* name :
       {"aten::mm", "klab::recurrence", "klab::attention", "klab::swiglu", "aten::add", "aten::cat"}) {
    for (const StepPart part : {StepPart::model, StepPart::loss, StepPart::optimiser}) {
      EXPECT_NE(std::find(all.begin(), all.end(), category_of(part, name)), all.end()) << name;
    }
  }
}

TEST(OperatorTimes, CountsEveryMomentOnce) {
  const at::Tensor x = at::randn({300, 300});
  OperatorTimes times;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 50; ++i) at::linear(x, x);  // calls other operators
  const double all = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  times.end_step();
  double sum = 0;
  for (const auto& [call, seconds] : times.seconds()) {
    EXPECT_GE(seconds, 0) << call.second;
    sum += seconds;
  }
  EXPECT_GT(times.seconds().size(), 1);
  EXPECT_LE(sum, all);
  EXPECT_GT(sum, 0.8 * all);
}

}  // namespace
}  // namespace klab
