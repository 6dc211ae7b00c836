// SPDX-License-Identifier: Apache-2.0
// Runs in the folders of tests.
#pragma once

#include <filesystem>
#include <string>

#include "core/base/file.h"
#include "experiments/run/run.h"

namespace klab {

/// The folder of a run that is ready to be trained.
inline RunFolder begun(const std::string& path, const RunConfig& config) {
  std::filesystem::create_directories(path);
  write_file(path + "/config.yaml", to_yaml(config));
  return {path};
}

inline void watch_nothing(RunRecord&, const TrainStatus*, bool) {}

}  // namespace klab
