// SPDX-License-Identifier: Apache-2.0
// Standard input and files that the command line names.
#pragma once

#include <array>
#include <optional>
#include <string>

namespace klab {

/// The bytes of standard input. An interrupt ends the wait for them: all members throw Interrupted, or Error with the
/// reason.
class StandardInput {
 public:
  /// None at the end.
  std::optional<char> byte();

  /// A line without its end; none at the end.
  std::optional<std::string> line();

  /// All bytes up to the end.
  std::string rest();

 private:
  bool fill();

  std::array<char, 1 << 16> block_{};
  size_t at_ = 0, size_ = 0;
};

/// The content of a file, or of standard input for "-". Throws UsageError if there is no such file.
std::string read_input(const std::string& path);

/// The name of that for messages: the path, or "standard input".
std::string input_name(const std::string& path);

}  // namespace klab
