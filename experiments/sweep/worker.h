// SPDX-License-Identifier: Apache-2.0
// A worker of a sweep: a process that trains runs until none are left.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/error.h"

namespace klab {

/// The sweep's folder cannot be written (a full disk), so no run can continue.
struct FolderLost : Error {
  using Error::Error;
};
constexpr int kFolderLost = 3;  ///< exit code of a worker

/// Trains runs of the sweep in `folder` until none are left (`klab sweep-worker DIR`, started by launchers). It ends
/// when the process `parent` ends (0: no parent). `command_line` is recorded in the headers of results. Returns the
/// exit code.
int run_sweep_worker(const std::string& folder, int64_t parent, const std::string& device,
                     const std::string& command_line);

/// Lines on a worker's standard output that its launcher reads: "@begin ID", "@end ID".
constexpr const char* kBegin = "@begin ";
constexpr const char* kEnd = "@end ";

}  // namespace klab
