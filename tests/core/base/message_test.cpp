// SPDX-License-Identifier: Apache-2.0
#include "core/base/message.h"

#include <gtest/gtest.h>

#include <string>

namespace klab {
namespace {

std::string printed(const auto& print) {
  testing::internal::CaptureStderr();
  print();
  return testing::internal::GetCapturedStderr();
}

TEST(Message, ShowsControlCharactersAsEscapes) {
  const std::string hostile = "run\x1b[2J";
  EXPECT_EQ(printed([&] { print_message("'{}' of {}", hostile, 3); }), "'run\\x1b[2J' of 3\n");
}

TEST(Message, ALineIsNoFormat) {
  const std::string line = "{} {0}";
  EXPECT_EQ(printed([&] { print_message(line); }), "{} {0}\n");
}

}  // namespace
}  // namespace klab
