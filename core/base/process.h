// Other programs: started without a shell, their output read through a pipe.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace klab {

/// Files in the place of a program's standard input (else empty) and standard output (else the pipe).
struct Redirection {
  std::string input, output;
};

/// A running program. What it writes comes through one pipe, standard error included.
class Process {
 public:
  /// `words[0]` is looked for on the PATH. Throws Error that names it when it cannot be started.
  explicit Process(const std::vector<std::string>& words, const Redirection& files = {});
  Process(Process&& other) noexcept;
  Process& operator=(Process&&) = delete;
  ~Process();  ///< kills it when it still runs

  pid_t id() const { return id_; }
  /// Complete lines that came since the last call, and at the end what is left. Does not wait.
  std::vector<std::string> lines();
  /// Whether it has ended; does not wait.
  bool ended();
  /// Of a program that has ended: its exit code, or minus the signal that killed it.
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

/// Runs a program to its end; returns what it wrote to the pipe. Throws Error, in the program's words, when it fails.
std::string output_of(const std::vector<std::string>& words, const Redirection& files = {});

/// Whether there is such a program on the PATH.
bool has_program(const std::string& name);

}  // namespace klab
