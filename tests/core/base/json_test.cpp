// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/base/support.h"

namespace klab {
namespace {

std::string nested(size_t deep) { return std::string(deep, '[') + std::string(deep, ']'); }

std::string members(int count) {
  std::string text = "{\"a0\": 0";
  for (int i = 1; i < count; ++i) text += fmt::format(", \"a{}\": {}", i, i);
  return text + "}";
}

TEST(ParseJson, LimitsDepthMembersAndSize) {
  const auto refusal = [](const std::string& text) { return failure_of([&] { parse_json(text, "f"); }); };
  EXPECT_EQ(parse_json(nested(64), "f").size(), 1u);
  EXPECT_CONTAINS(refusal(nested(66)), "f: nested more than 64 deep");
  EXPECT_CONTAINS(refusal(std::string(1'000'000, '[')), "f: nested more than 64 deep");
  EXPECT_EQ(parse_json(members(20'000), "f").size(), 20'000u);
  EXPECT_CONTAINS(refusal(members(20'001)), "f: an object with more than 20000 members");
  EXPECT_EQ(parse_sorted_json(members(20'001), "f").size(), 20'001u);
  EXPECT_CONTAINS(refusal(std::string((size_t{256} << 20) + 1, ' ')), "f: 268435457 bytes of JSON");
}

TEST(ParseJson, RefusesWhatNumbersCannotHold) {
  EXPECT_CONTAINS(failure_of([] { parse_json("[1e999]", "f"); }), "f: not valid JSON");
  EXPECT_CONTAINS(failure_of([] { parse_json("{\"a\": 1, \"a\": 2}", "f"); }), "names 'a' twice");
}

}  // namespace
}  // namespace klab
