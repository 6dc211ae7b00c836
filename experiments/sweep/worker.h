// A worker of a sweep: a process that takes runs and trains them, until there are none.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/error.h"

namespace klab {

/// The sweep's folder cannot be written to any more (a full disk): no run can continue.
struct FolderLost : Error {
  using Error::Error;
};
constexpr int kFolderLost = 3;  ///< exit code of a worker

/// Trains runs of the sweep in `folder` until none is left; `klab sweep-worker DIR`, which launchers start. It ends
/// when the process `parent` does (0: it does not). `command_line` goes into the headers of results. Returns the exit
/// code.
int run_sweep_worker(const std::string& folder, int64_t parent, const std::string& device,
                     const std::string& command_line);

/// Lines on a worker's standard output that its launcher reads: "@begin ID", "@end ID".
constexpr const char* kBegin = "@begin ";
constexpr const char* kEnd = "@end ";

}  // namespace klab
