// SPDX-License-Identifier: Apache-2.0
// The two kinds of errors that are reported to the user.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace klab {

/// A failure while executing a valid request (file, disk, diverged run). The program exits with 1.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// An invalid request (unknown key, wrong type, widths that do not divide). The program exits with 2.
struct UsageError : Error {
  using Error::Error;
};

/// Throws Error with a formatted message: what is wrong, where, and what is expected.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// Throws UsageError with a formatted message.
template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw UsageError(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace klab
