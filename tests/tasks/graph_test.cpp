// SPDX-License-Identifier: Apache-2.0
#include "tasks/graph.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "tasks/support.h"

namespace klab {
namespace {

struct Options : GraphOptions {
  Options(int64_t most, int64_t least, int64_t shortest, int64_t longest) : GraphOptions(most) {
    min_nodes = least;
    name_shortest = shortest;
    name_longest = longest;
  }
};

TEST(GraphNodes, DrawsDifferentNamesOfTheirLengths) {
  const GraphNodes nodes("depo", {64, 4}, Options(40, 40, 2, 4));
  Random random{1};
  std::map<size_t, int64_t> lengths;
  for (int64_t i = 0; i < 100; ++i) {
    const auto names = nodes.draw(random);
    ASSERT_EQ(names.size(), 40u);
    EXPECT_EQ(std::set<GraphNodes::Name>(names.begin(), names.end()).size(), 40u);
    ++lengths[names.front().size()];  // those after it are less often short, because they must be different
    for (const GraphNodes::Name& name : names) {
      for (size_t t = 0; t < name.size(); ++t) {
        EXPECT_EQ(nodes.token_name(name[t])[0], t + 1 < name.size() ? 'x' : 'z');
        EXPECT_LT(name[t], nodes.vocabulary());
      }
    }
  }
  // 33 of each, with a standard deviation of 4.7.
  EXPECT_EQ(lengths.size(), 3u);
  for (const auto& [length, count] : lengths) EXPECT_NEAR(count, 33, 5 * 4.7) << length;
}

TEST(GraphNodes, NamesOfOneTokenAreSymbols) {
  const GraphNodes nodes("depo", {64, 5}, Options(5, 5, 1, 1));
  EXPECT_EQ(nodes.vocabulary(), 5);
  Random random{1};
  std::set<std::string> seen;
  for (const GraphNodes::Name& name : nodes.draw(random)) seen.insert(nodes.token_name(name.at(0)));
  EXPECT_EQ(seen, (std::set<std::string>{"x0", "x1", "x2", "x3", "x4"}));
}

TEST(GraphNodes, SmallGraphsAreALittleMoreLikely) {
  const GraphNodes nodes("depo", {64, 64}, Options(9, 3, 1, 1));
  Random random{2};
  std::map<size_t, int64_t> counts;
  constexpr int64_t kDraws = 20'000;
  for (int64_t i = 0; i < kDraws; ++i) ++counts[nodes.draw(random).size()];
  double total = 0;
  for (int64_t n = 3; n <= 9; ++n) total += 1 / (3.0 + static_cast<double>(n));
  for (int64_t n = 3; n <= 9; ++n) {
    const double share = 1 / (3.0 + static_cast<double>(n)) / total;
    EXPECT_NEAR(counts[static_cast<size_t>(n)], kDraws * share, 5 * std::sqrt(kDraws * share * (1 - share))) << n;
  }
}

TEST(GraphNodes, RefusesTooFewNames) {
  const auto message = [](int64_t vocab, const Options& options) -> std::string {
    try {
      const GraphNodes nodes("depo", {64, vocab}, options);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(4, Options(21, 3, 1, 2)),
            "task.vocab = 4 must be larger for depo: it gives 20 names of 1 to 2 tokens, but there are up to 21 nodes");
  EXPECT_EQ(message(4, Options(20, 3, 1, 2)), "");
  EXPECT_EQ(message(64, Options(5, 6, 1, 1)), "task.depo.min_nodes = 6 must be at most task.depo.nodes = 5");
  EXPECT_EQ(message(64, Options(5, 3, 2, 1)), "task.depo.name_shortest = 2 must be at most task.depo.name_longest = 1");
}

}  // namespace
}  // namespace klab
