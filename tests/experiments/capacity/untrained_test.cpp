// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/untrained.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <set>

#include "core/base/error.h"
#include "mixers/registry.h"

namespace klab {
namespace {

UntrainedOptions small() {
  UntrainedOptions options;
  options.widths = {8};
  options.loads = {0.25, 1};
  options.quiet = true;
  return options;
}

TEST(UntrainedCapacity, TwoRunsGiveTheSameTable) {
  const std::string once = table_of(measure_untrained(small())).text();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_EQ(table_of(measure_untrained(small())).text(), once);
  at::set_num_threads(threads);
  UntrainedOptions other = small();
  other.seed = 2;
  EXPECT_NE(table_of(measure_untrained(other)).text(), once);
}

TEST(UntrainedCapacity, Columns) {
  const CsvTable table = table_of(measure_untrained(small()));
  const std::vector<std::string> first(table.columns.begin(), table.columns.begin() + 4);
  EXPECT_EQ(first, (std::vector<std::string>{"update", "key_dim", "pairs", "recovered"}));
  EXPECT_EQ(table.rows.size(), size_t{6} * (update_rules().size() + 1));
  EXPECT_EQ(table.rows[0][2], "2");
}

TEST(UntrainedCapacity, GatesAreChosenOnOtherDraws) {
  EXPECT_NE(cell_key(Purpose::search, Scenario::plain, 8, 2, 1), cell_key(Purpose::report, Scenario::plain, 8, 2, 1));
  EXPECT_NE(cell_key(Purpose::report, Scenario::plain, 8, 2, 1), cell_key(Purpose::report, Scenario::plain, 8, 2, 2));
}

TEST(UntrainedCapacity, PairsAtAShare) {
  std::vector<CapacityPoint> points(3);
  const double shares[] = {1, 0.995, 0.985};
  for (size_t i = 0; i < 3; ++i) {
    points[i].pairs = 10 * static_cast<int64_t>(i + 1);
    points[i].recovered = shares[i];
  }
  EXPECT_EQ(pairs_at(points, 0.99), "25.0");
  EXPECT_EQ(pairs_at(points, 0.98), ">= 30");
  points[0].recovered = 0.5;
  EXPECT_EQ(pairs_at(points, 0.99), "< 10");
}

TEST(UntrainedCapacity, RefusesBadOptions) {
  UntrainedOptions options = small();
  options.widths = {2};
  EXPECT_THROW(measure_untrained(options), UsageError);
  options = small();
  options.loads = {17};
  EXPECT_THROW(measure_untrained(options), UsageError);
  options = small();
  options.mixer = "mla";
  EXPECT_THROW(measure_untrained(options), UsageError);
}

// But those whose writes depend on earlier keys, which constant gates do not describe, and those with several memories.
TEST(UntrainedCapacity, EveryLinearMixerHasAnUpdateRule) {
  const std::set<std::string> others{"precond_gdn", "precond_kda", "log_linear_gdn", "log_linear_mamba2"};
  std::set<std::string> named;
  for (const UpdateRule& rule : update_rules()) named.insert(rule.mixers.begin(), rule.mixers.end());
  for (const MixerEntry& mixer : mixers().entries()) {
    const bool linear = mixer.kernel.rfind("recurrence/", 0) == 0;
    EXPECT_EQ(named.count(mixer.name) == 1, linear && others.count(mixer.name) == 0) << mixer.name;
  }
  EXPECT_EQ(update_rules_of("kda").size(), 3u);
  EXPECT_EQ(update_rules_of("retnet").back().name, "additive + decay per head");
}

}  // namespace
}  // namespace klab
