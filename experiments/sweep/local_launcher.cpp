// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "core/base/process.h"
#include "experiments/sweep/launcher.h"
#include "experiments/sweep/worker.h"

namespace klab {
namespace {

class LocalLauncher : public Launcher {
 public:
  explicit LocalLauncher(LauncherOptions options) : options_(std::move(options)) {}

  void start(int64_t count) override {
    const std::string self = worker_program(options_);
    for (int64_t i = 0; i < count; ++i) {
      workers_.push_back({Process({self, "sweep-worker", options_.folder, "--parent", fmt::format("{}", ::getpid()),
                                   "--threads", fmt::format("{}", options_.threads), "--device", options_.device}),
                          {},
                          {}});
    }
  }

  int64_t alive() override { return static_cast<int64_t>(workers_.size()); }

  WorkerNews look() override {
    WorkerNews news;
    std::vector<Worker> left;
    for (Worker& worker : workers_) {
      const bool over = worker.process.ended();
      for (const std::string& line : worker.process.lines()) on_line(line, worker, news);
      if (over) {
        on_exit(worker, news);
      } else {
        left.push_back(std::move(worker));
      }
    }
    workers_.swap(left);
    return news;
  }

  void stop() override {
    signal_all(SIGTERM);
    const auto end = Clock::now() + options_.grace;
    while (alive() > 0) {
      if (Clock::now() > end) signal_all(SIGKILL);
      look();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Worker {
    Process process;
    std::string run, last_line;
  };

  void signal_all(int number) const {
    for (const Worker& worker : workers_) worker.process.signal(number);
  }

  static void on_line(const std::string& line, Worker& worker, WorkerNews& news) {
    if (line.starts_with(kBegin)) {
      worker.run = line.substr(std::strlen(kBegin));
    } else if (line.starts_with(kEnd)) {
      worker.run.clear();
    } else if (!line.empty()) {
      worker.last_line = line;
      news.lines.push_back(line);
    }
  }

  static void on_exit(const Worker& worker, WorkerNews& news) {
    const int outcome = worker.process.outcome();
    if (outcome == kFolderLost) news.folder_lost = worker.last_line;
    const bool stopped = outcome == 128 + SIGTERM || outcome == 128 + SIGINT;
    if (outcome == 0 || outcome == kFolderLost || stopped) return;
    std::string reason = fmt::format("its process ended with {}", outcome);
    if (outcome < 0) {
      reason = fmt::format("its process was killed by signal {} ({}{})", -outcome, ::strsignal(-outcome),
                           outcome == -SIGKILL ? "; out of memory?" : "");
    }
    if (!worker.last_line.empty()) reason += ": " + worker.last_line;
    news.losses.push_back({worker.run, reason});
  }

  LauncherOptions options_;
  std::vector<Worker> workers_;
};

}  // namespace

std::string worker_program(const LauncherOptions& options) {
  return options.program.empty() ? std::filesystem::read_symlink("/proc/self/exe").string() : options.program;
}

std::unique_ptr<Launcher> local_launcher(const LauncherOptions& options) {
  return std::make_unique<LocalLauncher>(options);
}

}  // namespace klab
