// Runs the klab program as a user does.
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

/// A test with an empty folder of its own.
class ProgramTest : public testing::Test {
 protected:
  ProgramTest();
  ~ProgramTest() override;
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  std::filesystem::path folder_;
};

/// Flags of a run that takes about a second; `more` are pairs of flag and value that come on top or instead.
std::vector<std::string> tiny_run(const std::string& out, const std::vector<std::string>& more = {});

/// The rows of a metrics.csv without the columns that tell the time.
std::vector<std::string> timeless_rows(const std::string& path);

}  // namespace klab
