// SPDX-License-Identifier: Apache-2.0
#include "core/base/yaml.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include "core/base/support.h"

namespace klab {
namespace {

std::string refused_yaml(const std::string& text) {
  return message_of<UsageError>([&] { parse_yaml(text, "a.yaml"); });
}

TEST(Yaml, HasOneDocumentOrNone) {
  EXPECT_EQ(parse_yaml("a: 1\n", "a.yaml")["a"].as<int>(), 1);
  EXPECT_EQ(parse_yaml("---\na: 1\n...\n", "a.yaml")["a"].as<int>(), 1);
  for (const char* none : {"", "# nothing\n"}) EXPECT_TRUE(parse_yaml(none, "a.yaml").IsNull()) << none;
  EXPECT_CONTAINS(refused_yaml("a: 1\n---\na: 2\n"), "a.yaml: more than one document");
}

// The YAML library finds documents without end in this text.
TEST(Yaml, RefusesAnUnclosedQuoteInAList) {
  EXPECT_CONTAINS(refused_yaml(",roup.\n[.oprion: \"nwidth: ue\n- a\n-\"b, c\n"), "a.yaml");
}

TEST(Yaml, IsUtf8) {
  EXPECT_CONTAINS(refused_yaml("a: 1\nb: \xff\n"), "a.yaml, line 2: must be valid UTF-8");
  EXPECT_EQ(parse_yaml("a: \xc3\xa9\n", "a.yaml")["a"].as<std::string>(), "\xc3\xa9");
}

TEST(Yaml, KeysOfMapsInListsAreReadAsTheyWereWritten) {
  Value map = Value::object();
  for (const char* key : {"length", "mqar.pairs", "true", "a b", "wor`", "", "x: y", "- z", "\"q\""}) map[key] = 1;
  const Value list = Value::array({map});
  EXPECT_EQ(parse_yaml_list(yaml_flow(list)), list) << yaml_flow(list);
  EXPECT_EQ(yaml_flow(Value::array({{{"length", 256}, {"mqar.pairs", 8}}})), "[{length: 256, mqar.pairs: 8}]");
}

}  // namespace
}  // namespace klab
