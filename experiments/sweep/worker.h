// A worker of a sweep: a process that takes runs and trains them, until there are none.
#pragma once

#include <string>

#include "core/base/error.h"
#include "experiments/command.h"

namespace klab {

/// The sweep's folder cannot be written to any more (a full disk): no run can go on.
struct FolderLost : Error {
  using Error::Error;
};
constexpr int kFolderLost = 3;  ///< exit code of a worker

/// `klab sweep-worker DIR`, which launchers call.
Command sweep_worker_command();

/// A line that a worker says to who started it: "@begin ID", "@end ID".
constexpr const char* kBegin = "@begin ";
constexpr const char* kEnd = "@end ";

}  // namespace klab
