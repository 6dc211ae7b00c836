// SPDX-License-Identifier: Apache-2.0
#include "core/base/registry.h"

#include <gtest/gtest.h>

#include "core/base/support.h"

namespace klab {
namespace {

struct Entry {
  std::string name;
  int value;
};

const Registry<Entry>& registry() {
  static const Registry<Entry> entries("mixer", {{"kda", 1}, {"gdn", 2}, {"mamba2", 3}});
  return entries;
}

TEST(Registry, FindsByName) {
  EXPECT_EQ(registry().at("gdn").value, 2);
  EXPECT_EQ(registry().at("mamba2").value, 3);
}

TEST(Registry, NamesStandInTheOrderOfTheList) {
  EXPECT_EQ(registry().names(), (std::vector<std::string>{"kda", "gdn", "mamba2"}));
  EXPECT_EQ(registry().entries().size(), 3u);
}

TEST(Registry, AnUnknownNameListsTheKnownOnes) {
  EXPECT_EQ(message_of<UsageError>([] { registry().at("transformer"); }),
            "unknown mixer 'transformer'. Known: kda, gdn, mamba2");
}

TEST(Registry, ASlipNamesTheNearest) {
  EXPECT_EQ(message_of<UsageError>([] { registry().at("mamba"); }),
            "unknown mixer 'mamba'; did you mean 'mamba2'? Known: kda, gdn, mamba2");
  EXPECT_EQ(message_of<UsageError>([] { registry().at("KDA"); }),
            "unknown mixer 'KDA'; did you mean 'kda'? Known: kda, gdn, mamba2");
}

}  // namespace
}  // namespace klab
