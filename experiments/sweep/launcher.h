// Who starts a sweep's workers: this machine, or Slurm.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "experiments/sweep/folder.h"

namespace klab {

/// What happened to workers since the last look.
struct WorkerNews {
  std::vector<std::string> lines;  ///< that they said, for people
  /// A run whose worker ended in the middle of it, and why.
  struct Loss {
    std::string run, reason;
  };
  std::vector<Loss> losses;
  std::string folder_lost;  ///< why nothing can be written any more, or ""
};

class Launcher {
 public:
  virtual ~Launcher() = default;

  /// Starts up to `count` workers, beside those that are there.
  virtual void start(int64_t count) = 0;
  /// Workers that are there or on their way.
  virtual int64_t alive() = 0;
  virtual WorkerNews look() = 0;
  /// Asks all workers to write checkpoints and end; returns when they have.
  virtual void stop() = 0;
};

struct LauncherOptions {
  std::string folder;
  std::string device;
  int64_t threads = 1;             ///< per worker
  std::vector<std::string> slurm;  ///< words for sbatch (--partition=gpu)
};

/// Processes of this machine; they end when this one does.
std::unique_ptr<Launcher> local_launcher(const LauncherOptions& options);

/// A job array, one worker per task. Throws Error when there is no sbatch, or in its words.
std::unique_ptr<Launcher> slurm_launcher(const LauncherOptions& options);

}  // namespace klab
