// SPDX-License-Identifier: Apache-2.0
// Messages to the user, on standard error.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace klab {

/// Prints a line in which control characters are escapes (printable()): names and values may hold anything.
void print_message(std::string_view line);

template <class... Args>
void print_message(fmt::format_string<Args...> format, Args&&... args) {
  print_message(std::string_view(fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace klab
