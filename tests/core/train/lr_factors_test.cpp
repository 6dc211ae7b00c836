// SPDX-License-Identifier: Apache-2.0
#include "core/train/lr_factors.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/support.h"
#include "core/train/adamw.h"

namespace klab {
namespace {

using torch::Tensor;

std::vector<TrainedParameter> parameters() {
  std::vector<TrainedParameter> all;
  for (const char* name : {"embedding", "layer0.mixer.A_log", "layer0.mlp.up_proj.weight", "layer1.mixer.A_log",
                           "layer1.mixer.q_proj.weight", "lm_head.weight"}) {
    all.push_back({name, torch::ones({2, 2})});
  }
  return all;
}

std::vector<double> factors_of(const std::vector<Value>& maps) {
  std::vector<TrainedParameter> all = parameters();
  apply_lr_factors(lr_factors_of(maps), all);
  std::vector<double> factors;
  for (const TrainedParameter& parameter : all) factors.push_back(parameter.lr_factor);
  return factors;
}

TEST(LrFactors, MatchAPartOfTheNameOrAnExpression) {
  EXPECT_EQ(factors_of({}), (std::vector<double>{1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(factors_of({{{"match", "A_log"}, {"factor", 3}}}), (std::vector<double>{1, 3, 1, 3, 1, 1}));
  EXPECT_EQ(factors_of({{{"match", "^layer1\\..*(A_log|q_proj)"}, {"factor", 0.5}}}),
            (std::vector<double>{1, 1, 1, 0.5, 0.5, 1}));
}

TEST(LrFactors, TheLastOfSeveralIsUsed) {
  EXPECT_EQ(factors_of({{{"match", "layer"}, {"factor", 2}}, {{"match", "mixer"}, {"factor", 5}}}),
            (std::vector<double>{1, 5, 2, 5, 5, 1}));
}

TEST(LrFactors, AnEntryWithoutAMatchNamesParameters) {
  const std::string message = message_of<UsageError>([] { factors_of({{{"match", "mixer.q_prj"}, {"factor", 2}}}); });
  EXPECT_CONTAINS(message, "no parameter matches 'mixer.q_prj'");
  EXPECT_CONTAINS(message, "such as layer1.mixer.q_proj.weight, ") << "the most similar one comes first";
}

TEST(LrFactors, RefusesMalformedEntries) {
  const auto refusal = [](const Value& entry) { return message_of<UsageError>([&] { lr_factors_of({entry}); }); };
  EXPECT_CONTAINS(refusal({{"match", "A_log"}}), "must have the key factor");
  EXPECT_CONTAINS(refusal({{"factor", 2}}), "must have the key match");
  EXPECT_CONTAINS(refusal({{"match", "A_log"}, {"factor", -1}}), "factor = -1 must be");
  EXPECT_CONTAINS(refusal({{"match", "("}, {"factor", 1}}), "must be a regular expression");
  EXPECT_CONTAINS(refusal({{"match", ""}, {"factor", 1}}), "not empty");
  EXPECT_CONTAINS(refusal({{"mach", "A_log"}, {"factor", 1}}), "unknown key 'mach'");
}

TEST(LrFactors, MultiplyTheLearningRateOfAdamW) {
  std::vector<TrainedParameter> slow = parameters(), fast = parameters();
  apply_lr_factors({{"A_log", 4}}, fast);
  AdamW a(slow, {}), b(fast, {});
  for (auto* all : {&slow, &fast}) {
    for (TrainedParameter& parameter : *all) parameter.tensor.mutable_grad() = torch::full({2, 2}, 0.1);
  }
  a.step(0.25);  // powers of two, so that products are exact
  b.step(0.25);
  EXPECT_TRUE(torch::equal(slow[0].tensor, fast[0].tensor));
  std::vector<TrainedParameter> whole = parameters();
  AdamW c(whole, {});
  for (TrainedParameter& parameter : whole) parameter.tensor.mutable_grad() = torch::full({2, 2}, 0.1);
  c.step(1.0);
  EXPECT_TRUE(torch::equal(whole[1].tensor, fast[1].tensor));
  EXPECT_FALSE(torch::equal(whole[1].tensor, slow[1].tensor));
}

}  // namespace
}  // namespace klab
