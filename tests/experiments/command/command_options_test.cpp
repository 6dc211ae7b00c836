// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/command_options.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <functional>

#include "core/base/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

// Parses the command line of one command; false if CLI11 rejects it.
bool takes(CLI::App& app, Words words) {
  std::reverse(words.begin(), words.end());  // CLI11 expects reverse order
  try {
    app.parse(words);
    return true;
  } catch (const CLI::ParseError&) {
    return false;
  }
}

// Whether an option of that type, modified by `say`, accepts a value.
template <class T>
bool takes_value(const std::function<void(CommandOption&)>& say, const std::string& value) {
  CLI::App app;
  CommandOptions options(app);
  T target{};
  CommandOption option = options.add_option("--x", target, "");
  say(option);
  return takes(app, {"--x", value});
}

TEST(CommandOptions, ValuesGoToTheirVariables) {
  CLI::App app;
  CommandOptions options(app);
  std::string text = "before", file;
  int64_t count = 0;
  double rate = 0;
  bool on = false, off = false;
  options.add_option("--text", text, "");
  options.add_option("file", file, "");
  options.add_option("-n,--count", count, "");
  options.add_option("--rate", rate, "");
  options.add_flag("--on", on, "");
  options.add_flag("--off", off, "");
  ASSERT_TRUE(takes(app, {"--rate", "1e-3", "-n", "9000000000", "a b.csv", "--on"}));
  EXPECT_EQ(text, "before") << "unset values are unchanged";
  EXPECT_EQ(file, "a b.csv");
  EXPECT_EQ(count, 9000000000);
  EXPECT_EQ(rate, 1e-3);
  EXPECT_TRUE(on);
  EXPECT_FALSE(off);
}

TEST(CommandOptions, RefusesWordsOfAnotherType) {
  const auto nothing = [](CommandOption&) {};
  EXPECT_FALSE(takes_value<int64_t>(nothing, "1.5"));
  EXPECT_FALSE(takes_value<int64_t>(nothing, "x"));
  EXPECT_FALSE(takes_value<double>(nothing, "1,5"));
  CLI::App app;
  EXPECT_FALSE(takes(app, {"--unknown"}));
}

TEST(CommandOption, BoundsNumbers) {
  const auto positive = [](CommandOption& option) { option.positive(); };
  EXPECT_TRUE(takes_value<double>(positive, "1e-9"));
  EXPECT_FALSE(takes_value<double>(positive, "0"));
  EXPECT_FALSE(takes_value<int64_t>(positive, "-1"));
  const auto not_negative = [](CommandOption& option) { option.not_negative(); };
  EXPECT_TRUE(takes_value<int64_t>(not_negative, "0"));
  EXPECT_FALSE(takes_value<int64_t>(not_negative, "-1"));
  const auto between = [](CommandOption& option) { option.between(2, 5); };
  EXPECT_TRUE(takes_value<int64_t>(between, "2"));
  EXPECT_TRUE(takes_value<int64_t>(between, "5"));
  EXPECT_FALSE(takes_value<int64_t>(between, "1"));
  EXPECT_FALSE(takes_value<int64_t>(between, "6"));
}

TEST(CommandOption, TakesOneOfItsWords) {
  const auto one_of = [](CommandOption& option) { option.one_of({"cpu", "cuda"}); };
  EXPECT_TRUE(takes_value<std::string>(one_of, "cuda"));
  EXPECT_FALSE(takes_value<std::string>(one_of, "gpu"));
  EXPECT_FALSE(takes_value<std::string>(one_of, "cud"));
}

TEST(CommandOption, IsRequiredWhenItSaysSo) {
  CLI::App app;
  CommandOptions options(app);
  std::string model;
  options.add_option("--model", model, "").required();
  EXPECT_FALSE(takes(app, {}));
  EXPECT_TRUE(takes(app, {"--model", "x"}));
}

TEST(CommandOption, OneEachLeavesTheNextWordToOthers) {
  CLI::App app;
  CommandOptions options(app);
  Words where, files;
  options.add_option("--where", where, "").one_each();
  options.add_option("files", files, "");
  ASSERT_TRUE(takes(app, {"--where", "a=1", "x.csv", "--where", "b=2", "y.csv"}));
  EXPECT_EQ(where, (Words{"a=1", "b=2"}));
  EXPECT_EQ(files, (Words{"x.csv", "y.csv"}));
}

TEST(CommandOption, ListsMayBeOneWord) {
  CLI::App app;
  CommandOptions options(app);
  std::vector<int64_t> numbers;
  std::vector<double> rates;
  options.add_option("--numbers", numbers, "").comma_separated();
  options.add_option("--rates", rates, "").comma_separated();
  ASSERT_TRUE(takes(app, {"--numbers", "1,2,3", "--rates", "1e-3,0.5"}));
  EXPECT_EQ(numbers, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_EQ(rates, (std::vector<double>{1e-3, 0.5}));
}

TEST(CommandOption, TheHelpShowsTheDefaultWhereAsked) {
  CLI::App app;
  CommandOptions options(app);
  int64_t shown = 4711, silent = 4712;
  options.add_option("--shown", shown, "an option").show_default();
  options.add_option("--silent", silent, "another option");
  EXPECT_CONTAINS(app.help(), "4711");
  EXPECT_FALSE(contains(app.help(), "4712"));
  EXPECT_CONTAINS(app.help(), "another option");
}

TEST(CommandOptions, FunctionsAreCalledWithTheWord) {
  CLI::App app;
  CommandOptions options(app);
  Words taken;
  options.add_function(
      "--train.lr", [&](const std::string& word) { taken.push_back(word); }, "learning rate", "Config");
  ASSERT_TRUE(takes(app, {"--train.lr", "1e-3"}));
  EXPECT_EQ(taken, Words{"1e-3"});
  EXPECT_CONTAINS(app.help(), "Config");
}

TEST(CommandOptions, ARenamedOptionSaysItsNewName) {
  for (const Words& words : {Words{"--old", "3"}, Words{"--old"}, Words{"--old=3"}}) {
    CLI::App app;
    CommandOptions options(app);
    options.add_renamed("--old", "--new");
    const std::string message = message_of<UsageError>([&] { takes(app, words); });
    EXPECT_CONTAINS(message, "--old");
    EXPECT_CONTAINS(message, "--new");
    EXPECT_FALSE(contains(app.help(), "--old"));
  }
}

TEST(CommandOptions, AHiddenCommandIsNotListed) {
  CLI::App app;
  CLI::App* const shown = app.add_subcommand("shown", "");
  CLI::App* const hidden = app.add_subcommand("secret", "");
  CommandOptions(*hidden).hide();
  EXPECT_CONTAINS(app.help(), shown->get_name());
  EXPECT_FALSE(contains(app.help(), "secret"));
  EXPECT_TRUE(takes(app, {"secret"}));
}

}  // namespace
}  // namespace klab
