// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/message_reader.h"

#include <gtest/gtest.h>

#include <vector>

namespace klab {
namespace {

// The messages in lines of input.
std::vector<std::string> messages_in(std::vector<std::string> lines) {
  size_t at = 0;
  const auto read_line = [&](bool) {
    return at < lines.size() ? std::optional<std::string>(lines[at++]) : std::nullopt;
  };
  std::vector<std::string> all;
  while (const std::optional<std::string> message = next_message(read_line)) all.push_back(*message);
  return all;
}

using Messages = std::vector<std::string>;

TEST(NextMessage, IsALine) {
  EXPECT_EQ(messages_in({"one", " two "}), (Messages{"one", " two "}));
  EXPECT_EQ(messages_in({"pasted\n\nlines"}), Messages{"pasted\n\nlines"});
  EXPECT_EQ(messages_in({}), Messages{});
}

TEST(NextMessage, BlankLinesBetweenMessagesAreSkipped) {
  EXPECT_EQ(messages_in({"", "one", " ", "", "two"}), (Messages{"one", "two"}));
}

TEST(NextMessage, MayHaveSeveralLines) {
  EXPECT_EQ(messages_in({"\"\"\"", "a", "", "/quit", " b", " \"\"\" ", "c"}), (Messages{"a\n\n/quit\n b", "c"}));
  EXPECT_EQ(messages_in({"\"\"\"", "", "\"\"\"", "c"}), Messages{"c"}) << "nothing was said";
  EXPECT_EQ(messages_in({"\"\"\"", "a", "b"}), Messages{"a\nb"}) << "the end of input ends it";
}

TEST(NextMessage, QuitEndsTheConversation) {
  EXPECT_EQ(messages_in({"one", " /quit", "two"}), Messages{"one"});
  EXPECT_EQ(messages_in({"what does /quit do?"}), Messages{"what does /quit do?"});
}

TEST(NextMessage, TheReaderKnowsWhetherAMessageHasBegun) {
  std::vector<bool> inside;
  const std::vector<std::string> lines = {"\"\"\"", "a", "\"\"\""};
  next_message([&](bool begun) {
    inside.push_back(begun);
    return std::optional<std::string>(lines[inside.size() - 1]);
  });
  EXPECT_EQ(inside, (std::vector<bool>{false, true, true}));
}

}  // namespace
}  // namespace klab
