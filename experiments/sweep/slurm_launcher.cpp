// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/process.h"
#include "core/base/text.h"
#include "experiments/sweep/launcher.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kQueryEvery{2};  // limits the load on Slurm's controller

// Quotes a word for a shell script.
std::string shell_word(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

class SlurmLauncher : public Launcher {
 public:
  explicit SlurmLauncher(LauncherOptions options) : options_(std::move(options)) {
    for (const char* program : {"sbatch", "squeue", "scancel"}) {
      if (!has_program(program)) {
        fail("--launcher slurm needs Slurm's {}, which is not on the PATH (Debian: slurm-client)", program);
      }
    }
    options_.folder = std::filesystem::absolute(options_.folder).string();
  }

  void start(int64_t count) override {
    if (count < 1) return;
    const std::string script = options_.folder + "/slurm.sh";
    const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    // exec, so that signals from Slurm reach the worker.
    write_file(script, fmt::format("#!/bin/sh\nexec {} sweep-worker {} --threads {} --device {}\n", shell_word(self),
                                   shell_word(options_.folder), options_.threads, options_.device));
    std::vector<std::string> words{"sbatch",
                                   "--parsable",
                                   "--job-name=klab-sweep",
                                   fmt::format("--array=0-{}", count - 1),
                                   fmt::format("--cpus-per-task={}", options_.threads),
                                   "--output=" + options_.folder + "/slurm-%A_%a.out"};
    words.insert(words.end(), options_.slurm.begin(), options_.slurm.end());
    words.push_back(script);
    const std::string answer = output_of(words);  // "JOB" or "JOB;CLUSTER"
    const std::string job(trimmed(std::string_view(answer).substr(0, answer.find(';'))));
    if (job.empty() || job.find_first_not_of("0123456789") != std::string::npos) {
      fail("sbatch answered '{}', not the number of a job", job);
    }
    jobs_.push_back(job);
    alive_ += count;
    queried_ = Clock::now();
  }

  int64_t alive() override {
    if (jobs_.empty() || Clock::now() - queried_ < kQueryEvery) return alive_;
    queried_ = Clock::now();
    // squeue fails for the numbers of old jobs, so jobs are listed by name. -r prints one line per pending array task.
    alive_ = 0;
    for (const std::string& job : split(output_of({"squeue", "-h", "-r", "-o", "%F", "-n", "klab-sweep"}), '\n')) {
      alive_ += std::count(jobs_.begin(), jobs_.end(), job);
    }
    return alive_;
  }

  WorkerNews look() override { return {}; }  // the output of a task is in its slurm-*.out

  void stop() override {
    if (jobs_.empty()) return;
    std::vector<std::string> words{"scancel"};
    words.insert(words.end(), jobs_.begin(), jobs_.end());
    output_of(words);
    while (alive() > 0) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }

 private:
  LauncherOptions options_;
  std::vector<std::string> jobs_;
  int64_t alive_ = 0;
  Clock::time_point queried_;
};

}  // namespace

std::unique_ptr<Launcher> slurm_launcher(const LauncherOptions& options) {
  return std::make_unique<SlurmLauncher>(options);
}

}  // namespace klab
