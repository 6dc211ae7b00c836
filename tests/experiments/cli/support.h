// SPDX-License-Identifier: Apache-2.0
// Runs the klab program.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace klab {

struct Finished {
  int status;  ///< exit status, or 128 + signal
  std::string out, err;
};

/// Runs `klab arguments...` to its end, or sends it `signal` after `seconds`.
Finished klab(const std::vector<std::string>& arguments, int signal = 0, double seconds = 0);

/// A test with its own empty folder.
class ProgramTest : public testing::Test {
 protected:
  ProgramTest();
  ~ProgramTest() override;
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

/// Flags of a run that takes about a second; `more` are further pairs of flag and value, which may override them.
std::vector<std::string> tiny_run(const std::string& out, const std::vector<std::string>& more = {});

/// The rows of a metrics.csv without the columns that depend on time.
std::vector<std::string> timeless_rows(const std::string& path);

}  // namespace klab
