// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/command_line.h"

#include <gtest/gtest.h>

#include <memory>

#include "core/base/support.h"

namespace klab {
namespace {

using CommandLineWords = std::vector<std::string>;

const std::vector<Command>& counting_commands() {
  static const std::vector<Command> kCommands = {
      {"count", "counts", "./klab count 3", takes::seed,
       [](CommandOptions& app, const Globals& globals) -> std::function<int()> {
         const auto number = std::make_shared<int64_t>(0);
         app.add_option("NUMBER", *number, "what to add to the seed").required().positive();
         app.add_renamed("--old", "--new");
         return [number, &globals] { return static_cast<int>(*number + globals.seed.value_or(0)); };
       }},
      {"rest", "does nothing", "./klab rest", takes::nothing,
       [](CommandOptions&, const Globals&) -> std::function<int()> { return [] { return 0; }; }}};
  return kCommands;
}

std::string refused_line(const CommandLineWords& words) {
  return message_of<UsageError>([&] {
    Globals globals;
    parse_command_line(words, counting_commands(), globals);
  });
}

TEST(CommandLine, GivesTheCommandAndWhatItDoes) {
  Globals globals;
  const ParsedCommandLine parsed = parse_command_line({"--seed", "40", "count", "2"}, counting_commands(), globals);
  ASSERT_EQ(parsed.command, &counting_commands()[0]);
  EXPECT_EQ(parsed.action(), 42);
}

TEST(CommandLine, HelpAndVersionAreNoCommands) {
  for (const CommandLineWords& words : {CommandLineWords{"--help"}, {"count", "--help"}, {"--version"}}) {
    Globals globals;
    const ParsedCommandLine parsed = parse_command_line(words, counting_commands(), globals);
    EXPECT_EQ(parsed.command, nullptr) << words.front();
    ASSERT_TRUE(parsed.action) << words.front();
  }
}

TEST(CommandLine, RefusesWhatItDoesNotKnow) {
  EXPECT_CONTAINS(refused_line({}), "see --help");
  EXPECT_CONTAINS(refused_line({"cuont", "2"}), "unknown command 'cuont'; did you mean 'count'?");
  EXPECT_CONTAINS(refused_line({"count", "2", "--sed=1"}), "unknown option '--sed'; did you mean '--seed'?");
  EXPECT_CONTAINS(refused_line({"count", "2", "3"}), "unexpected argument '3'; see --help");
  EXPECT_CONTAINS(refused_line({"count", "x"}), "; see --help");
  EXPECT_CONTAINS(refused_line({"count", "1", "--old", "2"}), "the option --old is now --new");
  EXPECT_CONTAINS(refused_line({"--seed", "1", "rest"}), "rest does not accept --seed; accepted global options: none");
}

}  // namespace
}  // namespace klab
