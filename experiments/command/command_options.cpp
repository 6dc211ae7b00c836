// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/command_options.h"

#include <CLI/CLI.hpp>

#include "core/base/error.h"

namespace klab {

CommandOption& CommandOption::required() {
  option_->required();
  return *this;
}

CommandOption& CommandOption::positive() {
  option_->check(CLI::PositiveNumber);
  return *this;
}

CommandOption& CommandOption::not_negative() {
  option_->check(CLI::NonNegativeNumber);
  return *this;
}

CommandOption& CommandOption::between(double low, double high) {
  option_->check(CLI::Range(low, high));
  return *this;
}

CommandOption& CommandOption::one_of(const std::vector<std::string>& words) {
  option_->check(CLI::IsMember(words));
  return *this;
}

CommandOption& CommandOption::one_each() {
  option_->type_size(1)->allow_extra_args(false);
  return *this;
}

CommandOption& CommandOption::comma_separated() {
  option_->delimiter(',');
  return *this;
}

CommandOption& CommandOption::show_default() {
  option_->capture_default_str();
  return *this;
}

CommandOption CommandOptions::add_option(const std::string& name, std::string& value, const std::string& help) {
  return CommandOption(app_.add_option(name, value, help));
}

CommandOption CommandOptions::add_option(const std::string& name, int64_t& value, const std::string& help) {
  return CommandOption(app_.add_option(name, value, help));
}

CommandOption CommandOptions::add_option(const std::string& name, double& value, const std::string& help) {
  return CommandOption(app_.add_option(name, value, help));
}

CommandOption CommandOptions::add_option(const std::string& name, std::vector<std::string>& values,
                                         const std::string& help) {
  return CommandOption(app_.add_option(name, values, help));
}

CommandOption CommandOptions::add_option(const std::string& name, std::vector<double>& values,
                                         const std::string& help) {
  return CommandOption(app_.add_option(name, values, help));
}

CommandOption CommandOptions::add_option(const std::string& name, std::vector<int64_t>& values,
                                         const std::string& help) {
  return CommandOption(app_.add_option(name, values, help));
}

void CommandOptions::add_flag(const std::string& name, bool& value, const std::string& help) {
  app_.add_flag(name, value, help);
}

void CommandOptions::add_function(const std::string& name, const std::function<void(const std::string&)>& take,
                                  const std::string& help, const std::string& group) {
  app_.add_option_function<std::string>(name, take, help)->type_name("")->group(group);
}

void CommandOptions::add_renamed(const std::string& name, const std::string& now) {
  app_.add_option_function<std::string>(
          name, [name, now](const std::string&) { refuse("the option {} is now {}", name, now); }, "")
      ->expected(0, 1)
      ->group("");
}

void CommandOptions::hide() { app_.group(""); }

}  // namespace klab
