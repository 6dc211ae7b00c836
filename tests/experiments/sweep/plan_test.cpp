// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/plan.h"

#include <gtest/gtest.h>

#include "core/base/support.h"

namespace klab {
namespace {

Plan sample() {
  Plan plan;
  plan.name = "lr \"search\"";
  plan.keys = {"train.lr", "model.pattern"};
  plan.runs = {{"id-b", {"0.01", "[kda, mla]"}, "g 1", 2, 300, 1.5e12},
               {"id-a", {"1e-05", ""}, "g\n2", 0, 400, 0.1},
               {"id-c", {"ä", "\\"}, "", 1, 500, 0}};
  plan.asked = 4;
  plan.threads = 2;
  return plan;
}

void expect_same(const Plan& a, const Plan& b) {
  EXPECT_EQ(a.name, b.name);
  EXPECT_EQ(a.keys, b.keys);
  EXPECT_EQ(a.asked, b.asked);
  EXPECT_EQ(a.threads, b.threads);
  ASSERT_EQ(a.runs.size(), b.runs.size());
  for (size_t i = 0; i < a.runs.size(); ++i) {
    EXPECT_EQ(a.runs[i].id, b.runs[i].id);
    EXPECT_EQ(a.runs[i].values, b.runs[i].values);
    EXPECT_EQ(a.runs[i].group, b.runs[i].group);
    EXPECT_EQ(a.runs[i].place, b.runs[i].place);
    EXPECT_EQ(a.runs[i].steps, b.runs[i].steps);
    EXPECT_EQ(a.runs[i].tokens, b.runs[i].tokens);
  }
  ASSERT_EQ(a.halving.has_value(), b.halving.has_value());
  if (!a.halving) return;
  EXPECT_EQ(a.halving->metric, b.halving->metric);
  EXPECT_EQ(a.halving->factor, b.halving->factor);
  EXPECT_EQ(a.halving->steps, b.halving->steps);
  EXPECT_EQ(a.halving->within, b.halving->within);
}

TEST(Plan, ReadsBackWhatWasWritten) {
  Plan plan = sample();
  expect_same(plan, plan_of(to_text(plan), "plan.json"));
  plan.halving = Halving{"loss", 4, {10, 20, 40}, {"model.pattern"}};
  expect_same(plan, plan_of(to_text(plan), "plan.json"));
  EXPECT_EQ(to_text(plan), to_text(plan_of(to_text(plan), "plan.json")));
}

// A plan is indexed by its places.
TEST(Plan, RefusesPlacesAndValuesThatDoNotFit) {
  const auto refused = [](const std::function<void(Plan&)>& change) {
    Plan plan = sample();
    change(plan);
    return failure_of([&] { plan_of(to_text(plan), "x/plan.json"); });
  };
  EXPECT_CONTAINS(refused([](Plan& plan) { plan.runs[0].place = 3; }), "'id-b' has the place 3");
  EXPECT_CONTAINS(refused([](Plan& plan) { plan.runs[0].place = -1; }), "'id-b' has the place -1");
  EXPECT_CONTAINS(refused([](Plan& plan) { plan.runs[2].place = 0; }), "'id-c' has the place 0");
  EXPECT_CONTAINS(refused([](Plan& plan) { plan.runs[1].values.pop_back(); }), "'id-a' has 1 values");
  EXPECT_CONTAINS(refused([](Plan& plan) { plan.halving = Halving{"loss", 1, {10}, {}}; }), "halving.factor = 1");
}

TEST(Plan, RefusesATextThatIsNone) {
  for (const char* text : {"", "{", "[]", "{}", R"({"name": "x", "keys": [], "asked": 1, "threads": 1})"}) {
    EXPECT_CONTAINS(failure_of([&] { plan_of(text, "x/plan.json"); }), "x/plan.json");
  }
  std::string text = to_text(sample());
  const size_t at = text.find("\"id-b\"");
  ASSERT_NE(at, std::string::npos);
  EXPECT_CONTAINS(failure_of([&] { plan_of(text.replace(at, 6, "17"), "x/plan.json"); }), "x/plan.json");
}

TEST(Plan, TheFilesOrderIsThatOfThePlaces) { EXPECT_EQ(sample().in_file_order(), (std::vector<size_t>{1, 2, 0})); }

}  // namespace
}  // namespace klab
