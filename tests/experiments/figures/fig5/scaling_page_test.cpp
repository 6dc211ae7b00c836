// SPDX-License-Identifier: Apache-2.0
// Pages and tables of runs that are made up.
#include "experiments/figures/fig5/scaling_page.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/support.h"
#include "core/base/text.h"

namespace klab {
namespace {

// Three sizes with two runs each at 2, 4 and 8 TFLOPs, on factor C^-0.5.
std::vector<ScalingSize> sizes_of(const std::string& architecture, double factor) {
  std::vector<ScalingSize> sizes;
  for (const double compute : {2.0, 4.0, 8.0}) {
    const double loss = factor / std::sqrt(compute);
    sizes.push_back({architecture, fmt::format("{}", compute), {12345, 678000, compute * 1e12}, {}, 0});
    sizes.back().runs = {{11, loss, loss - 0.25}, {12, loss, loss - 0.25}};
  }
  return sizes;
}

class ScalingPage : public testing::Test {
 protected:
  ScalingPage() {
    for (const auto& more : {sizes_of("MLA", 6), sizes_of("KDA hybrid", 5)}) {
      sizes_.insert(sizes_.end(), more.begin(), more.end());
    }
  }

  std::vector<ArchitectureFit> fits() const { return fit_architectures(sizes_); }
  std::vector<ComputeAdvantage> advantages() const { return {compute_advantage(fits(), {"KDA hybrid", "MLA"})}; }
  std::string page() const { return join(scaling_lines(sizes_, fits(), advantages()), "\n"); }

  std::vector<ScalingSize> sizes_;
};

TEST_F(ScalingPage, HasPointsLawsAndRatiosBesideThePublishedOnes) {
  EXPECT_CONTAINS(page(), "| MLA | 4 | 12.3k | 678k | 4 | 3.0000 | 2.7500 | 2 |");
  EXPECT_CONTAINS(page(), "The entropy of the source is 0.2500 nats per token");
  EXPECT_CONTAINS(page(), "| MLA | 6.0000 | -0.5000 [-0.5000, -0.5000] | ");
  EXPECT_CONTAINS(page(), " | 2.3092 C^-0.0536 |");
  EXPECT_CONTAINS(page(), " | 2.2879 C^-0.0527 |");
  EXPECT_CONTAINS(page(), "| KDA hybrid | MLA | 2.7386 | 1.440 [1.440, 1.440] | 1.16 |");
  EXPECT_CONTAINS(page(), "They cover the variation between seeds only");
}

TEST_F(ScalingPage, SaysWhereRunsAreMissing) {
  sizes_.back().runs.clear();
  sizes_.back().diverged = 2;
  EXPECT_CONTAINS(page(), "| KDA hybrid | 8 | 12.3k | 678k | 8 | - | - | 0, 2 diverged |");
  EXPECT_CONTAINS(page(), "| KDA hybrid | not fitted: runs of 2 sizes, and 3 are needed |");
  EXPECT_CONTAINS(page(), "| KDA hybrid | MLA | | not known: KDA hybrid: runs of fewer than 3 sizes | 1.16 |");
  EXPECT_EQ(fits_table(fits()).rows.size(), 1u);
  EXPECT_TRUE(ratios_table(advantages()).rows.empty());
  EXPECT_EQ(points_table(sizes_).rows.size(), 10u);
}

TEST_F(ScalingPage, SaysNothingOfNoRuns) { EXPECT_TRUE(scaling_lines({}, {}, {}).empty()); }

TEST_F(ScalingPage, EveryRowOfATableHasItsColumns) {
  for (const CsvTable& table : {points_table(sizes_), fits_table(fits()), ratios_table(advantages())}) {
    ASSERT_FALSE(table.rows.empty());
    for (const auto& row : table.rows) EXPECT_EQ(row.size(), table.columns.size());
  }
  EXPECT_EQ(join(points_table(sizes_).rows[1]), "MLA, 2, 12345, 678000, 2, 12, 4.242641, 3.992641");
  EXPECT_EQ(join(ratios_table(advantages()).rows[0]), "KDA hybrid, MLA, 2.73861, 1.44, 1.44, 1.44");
}

}  // namespace
}  // namespace klab
