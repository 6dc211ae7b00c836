// SPDX-License-Identifier: Apache-2.0
// Progress display: one line that is redrawn on a terminal, otherwise a plain line every few seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace klab {

class Progress {
 public:
  /// `done` of `total` steps are already complete (a resumed run). Prints to standard error; nothing if `quiet`.
  Progress(std::string label, int64_t total, int64_t done = 0, bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Shows `done` with `status` ("loss 0.31  acc 0.95"); rate-limited, so it can be called often.
  void update(int64_t done, const std::string& status);

  /// Prints a permanent line above the bar.
  void note(const std::string& line);

 private:
  using Clock = std::chrono::steady_clock;

  std::string line(const std::string& status) const;
  void erase();

  std::string label_;
  int64_t total_, start_, done_;
  bool quiet_, terminal_, drawn_ = false;
  Clock::time_point begin_, last_;
};

}  // namespace klab
