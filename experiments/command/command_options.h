// SPDX-License-Identifier: Apache-2.0
// Options of a subcommand. The interface hides CLI11, whose header is slow to compile.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace klab {

/// Sets further properties of an option.
class CommandOption {
 public:
  explicit CommandOption(CLI::Option* option) : option_(option) {}

  CommandOption& required();
  CommandOption& positive();
  CommandOption& not_negative();
  CommandOption& between(double low, double high);
  CommandOption& one_of(const std::vector<std::string>& words);
  /// A list option that takes one value per occurrence.
  CommandOption& one_each();
  /// Several values separated by commas, "1,2,3".
  CommandOption& comma_separated();
  /// Shows the variable's current value as the default in the help.
  CommandOption& show_default();

 private:
  CLI::Option* option_;
};

/// Values are assigned to the variables when the command line is parsed. A name without dashes is a positional
/// argument.
class CommandOptions {
 public:
  explicit CommandOptions(CLI::App& app) : app_(app) {}

  CommandOption add_option(const std::string& name, std::string& value, const std::string& help);
  CommandOption add_option(const std::string& name, int64_t& value, const std::string& help);
  CommandOption add_option(const std::string& name, double& value, const std::string& help);
  CommandOption add_option(const std::string& name, std::vector<std::string>& values, const std::string& help);
  CommandOption add_option(const std::string& name, std::vector<int64_t>& values, const std::string& help);
  CommandOption add_option(const std::string& name, std::vector<double>& values, const std::string& help);
  void add_flag(const std::string& name, bool& value, const std::string& help);

  /// Calls `take` with the option's value. The help lists the option under the heading `group`.
  void add_function(const std::string& name, const std::function<void(const std::string&)>& take,
                    const std::string& help, const std::string& group);

  /// The old name of a renamed option: its use is an error that names the new one. Not in the help.
  void add_renamed(const std::string& name, const std::string& now);

  /// Hides the command in the list of commands.
  void hide();

 private:
  CLI::App& app_;
};

}  // namespace klab
