// SPDX-License-Identifier: Apache-2.0
// Launchers of a sweep's workers: on this machine, or through Slurm.
#pragma once

#include <chrono>
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
  /// Signals all workers to write checkpoints and end, and waits for them; those that do not end are killed.
  virtual void stop() = 0;
};

struct LauncherOptions {
  std::string folder;
  std::string device;
  int64_t threads = 1;                      ///< per worker
  std::vector<std::string> slurm;           ///< options of sbatch (--partition=gpu)
  std::string program = {};                 ///< of the workers; "": this one
  std::chrono::milliseconds grace{60'000};  ///< until workers on this machine are killed that do not end
  std::chrono::milliseconds pause{1'000};   ///< after a call of Slurm that failed; doubled with each failure
};

/// The program of the workers.
std::string worker_program(const LauncherOptions& options);

/// Workers are processes on this machine; they end when this process ends.
std::unique_ptr<Launcher> local_launcher(const LauncherOptions& options);

/// Workers are the tasks of a job array. Calls of Slurm that fail are repeated with growing pauses; members throw Error
/// with Slurm's message after several failures. Throws Error if sbatch is missing, and UsageError as
/// require_free_slurm_options().
std::unique_ptr<Launcher> slurm_launcher(const LauncherOptions& options);

/// Throws UsageError, which names the option, if one of these options of sbatch is an option on which the launcher
/// relies, or is none.
void require_free_slurm_options(const std::vector<std::string>& words);

}  // namespace klab
