// A subcommand's options: an interface that hides CLI11, whose header is slow to compile.
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

/// An option, to say more about it.
class CommandOption {
 public:
  explicit CommandOption(CLI::Option* option) : option_(option) {}

  CommandOption& required();
  CommandOption& positive();
  CommandOption& not_negative();
  CommandOption& between(double low, double high);
  CommandOption& one_of(const std::vector<std::string>& words);
  /// A list of which every mention of the option brings one.
  CommandOption& one_each();
  /// Several values in one word, "1,2,3".
  CommandOption& comma_separated();
  /// The help shows the value that the variable has now.
  CommandOption& show_default();

 private:
  CLI::Option* option_;
};

/// Values go to the variables when the command line is read. A name without dashes is a positional argument.
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

  /// Calls `take` with the word behind the option. In the help it stands under the heading `group`.
  void add_function(const std::string& name, const std::function<void(const std::string&)>& take,
                    const std::string& help, const std::string& group);

  /// An option that has another name now: the message says so. It is not in the help.
  void add_renamed(const std::string& name, const std::string& now);

  /// Keeps the command out of the list of commands.
  void hide();

 private:
  CLI::App& app_;
};

}  // namespace klab
