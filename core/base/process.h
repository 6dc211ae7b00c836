// SPDX-License-Identifier: Apache-2.0
// Child processes, started without a shell; their output is read through a pipe.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace klab {

/// Where a program's streams lead, and what else is different from this process.
struct Redirection {
  std::string input;       ///< a file for standard input; "": empty
  std::string output;      ///< a file for standard output; "": the pipe
  bool inherit = false;    ///< standard output and error are this process's own
  bool own_group = false;  ///< a process group of its own, which the terminal's signals do not reach
  std::map<std::string, std::string> environment{};  ///< variables beside this process's
};

/// A running program. Standard output and standard error share one pipe.
class Process {
 public:
  /// `words[0]` is searched on the PATH. Throws Error with its name if it cannot be started.
  explicit Process(const std::vector<std::string>& words, const Redirection& files = {});
  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();  ///< kills the program if it still runs

  pid_t id() const { return id_; }
  /// The complete lines since the last call, after the end also an incomplete last line. Does not wait.
  std::vector<std::string> lines();
  /// Whether the program has ended. Does not wait.
  bool ended();
  /// After the end: the exit code, or minus the signal that killed the program.
  int outcome() const { return outcome_; }
  void signal(int number) const;

 private:
  void read_some();

  pid_t id_ = -1;
  int pipe_ = -1;
  bool ended_ = false;
  int outcome_ = 0;
  std::string pending_;
};

/// Runs a program to its end and returns its output from the pipe. Throws Error with that output when it fails.
std::string output_of(const std::vector<std::string>& words, const Redirection& files = {});

/// Whether the program is on the PATH.
bool has_program(const std::string& name);

}  // namespace klab
