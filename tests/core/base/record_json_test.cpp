// SPDX-License-Identifier: Apache-2.0
// Records as JSON.
#include <gtest/gtest.h>

#include "core/base/json.h"

namespace klab {
namespace {

struct Sample {
  int64_t count = 1;
  double rate = 0.5;
  bool flag = true;
  std::vector<int64_t> steps = {1, 2};
  std::vector<std::string> words = {"a"};

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("count", self.count);
    visit("rate", self.rate);
    visit("flag", self.flag);
    visit("steps", self.steps);
    visit("words", self.words);
  }
};

TEST(RecordJson, ReadsBackWhatWasWritten) {
  const auto object = to_object(Sample{-7, 2, false, {}, {"", "b"}});
  EXPECT_EQ(to_object(value_from<Sample>(object)), object);
  EXPECT_EQ(value_from<double>(3), 3.0);
}

// The parser's own conversion has no defined result for 1e300.
TEST(RecordJson, IntegersAreIntegersInJson) {
  for (const char* wrong : {"1.5", "1e300", "true", "null", "\"1\"", "[1]"}) {
    auto object = to_object(Sample{});
    object["count"] = nlohmann::ordered_json::parse(wrong);
    EXPECT_THROW(value_from<Sample>(object), nlohmann::json::exception) << wrong;
    EXPECT_THROW(value_from<int64_t>(object["count"]), nlohmann::json::exception) << wrong;
    object = to_object(Sample{});
    object["steps"] = nlohmann::ordered_json::parse(std::string("[1, ") + wrong + "]");
    EXPECT_THROW(value_from<Sample>(object), nlohmann::json::exception) << wrong;
  }
  auto object = to_object(Sample{});
  object["steps"] = 1;
  EXPECT_THROW(value_from<Sample>(object), nlohmann::json::exception);
}

}  // namespace
}  // namespace klab
