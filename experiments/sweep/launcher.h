// SPDX-License-Identifier: Apache-2.0
// Launchers of a sweep's workers: on this machine, or through Slurm.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "experiments/sweep/folder.h"

namespace klab {

/// Events of the workers since the last call.
struct WorkerNews {
  std::vector<std::string> lines;  ///< their output, for display
  /// A run whose worker ended during it, and the reason.
  struct Loss {
    std::string run, reason;
  };
  std::vector<Loss> losses;
  std::string folder_lost;  ///< why the folder cannot be written anymore, or ""
};

class Launcher {
 public:
  virtual ~Launcher() = default;

  /// Starts up to `count` more workers.
  virtual void start(int64_t count) = 0;
  /// The number of running or pending workers.
  virtual int64_t alive() = 0;
  virtual WorkerNews look() = 0;
  /// Signals all workers to write checkpoints and end, and waits for them.
  virtual void stop() = 0;
};

struct LauncherOptions {
  std::string folder;
  std::string device;
  int64_t threads = 1;             ///< per worker
  std::vector<std::string> slurm;  ///< options of sbatch (--partition=gpu)
};

/// Workers are processes on this machine; they end when this process ends.
std::unique_ptr<Launcher> local_launcher(const LauncherOptions& options);

/// Workers are the tasks of a job array. Throws Error if sbatch is missing, or with its message.
std::unique_ptr<Launcher> slurm_launcher(const LauncherOptions& options);

}  // namespace klab
