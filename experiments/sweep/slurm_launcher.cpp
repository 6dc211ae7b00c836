// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/process.h"
#include "core/base/text.h"
#include "experiments/sweep/launcher.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;
using Pause = std::chrono::milliseconds;

// Of one call, in a row. With pauses from one second on, several minutes of squeue, half a minute of the others.
constexpr int kMostCalls = 6, kMostQuestions = 9;
constexpr int kPausesBetweenQuestions = 2;  // limits the load on Slurm's controller
constexpr int kMostPauses = 64;

// Quotes a word for a shell script.
std::string shell_word(const std::string& word) {
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Whether Slurm refuses the request itself, so that it is of no use to repeat it.
bool is_refusal(std::string_view message) {
  const auto says = [&](std::string_view words) { return message.find(words) != std::string_view::npos; };
  return says("nvalid") || says("nrecogni") || says("denied") || says("not permitted") || says("violates");
}

class SlurmLauncher : public Launcher {
 public:
  explicit SlurmLauncher(LauncherOptions options)
      : options_(std::move(options)),
        job_name_(fmt::format("klab-sweep-{}-{}", ::getpid(),
                              std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1))) {
    require_free_slurm_options(options_.slurm);
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
    // exec, so that signals from Slurm reach the worker.
    write_file(script, fmt::format("#!/bin/sh\nexec {} sweep-worker {} --threads {} --device {}\n",
                                   shell_word(worker_program(options_)), shell_word(options_.folder), options_.threads,
                                   options_.device));
    std::vector<std::string> words{"sbatch",
                                   "--parsable",
                                   "--job-name=" + job_name_,
                                   fmt::format("--array=0-{}", count - 1),
                                   fmt::format("--cpus-per-task={}", options_.threads),
                                   "--output=" + options_.folder + "/slurm-%A_%a.out"};
    words.insert(words.end(), options_.slurm.begin(), options_.slurm.end());
    words.push_back(script);
    submitted_ = true;                           // also if sbatch fails: its answer may have been lost
    const std::string answer = repeated(words);  // warnings, then "JOB" or "JOB;CLUSTER"
    const std::string line = answer.substr(answer.rfind('\n') + 1);
    if (!is_number(trimmed(std::string_view(line).substr(0, line.find(';'))))) {
      fail("sbatch answered '{}', not the number of a job", answer);
    }
    alive_ += count;
    ask_again_after(kPausesBetweenQuestions);
  }

  int64_t alive() override {
    if (!submitted_ || Clock::now() < next_question_) return alive_;
    try {
      // squeue fails for the numbers of old jobs, so jobs are listed by name. -r prints one line per pending array
      // task.
      const auto lines = split(output_of({"squeue", "-h", "-r", "-o", "%F", "-n", job_name_}), '\n');
      alive_ = std::count_if(lines.begin(), lines.end(), is_number);
      failures_ = 0;
      ask_again_after(kPausesBetweenQuestions);
    } catch (const Error& error) {
      if (++failures_ >= (stopping_ ? kMostCalls : kMostQuestions)) throw;
      ask_again_after(std::min(kMostPauses, kPausesBetweenQuestions << failures_));
      tell(error);
    }
    return alive_;
  }

  WorkerNews look() override { return std::exchange(news_, {}); }  // the output of a task is in its slurm-*.out

  void stop() override {
    if (!submitted_) return;
    stopping_ = true;
    failures_ = 0;
    try {
      repeated({"scancel", "-n", job_name_});
    } catch (const Error& error) {
      fail("the tasks of the sweep may go on: {}. Cancel them with 'scancel -n {}'", error.what(), job_name_);
    }
    next_question_ = Clock::now();
    while (alive() > 0) std::this_thread::sleep_for(Pause(50));
  }

 private:
  // The output of a program of Slurm, whose controller may be busy or restarting for a while.
  std::string repeated(const std::vector<std::string>& words) {
    for (int failures = 1;; ++failures) {
      try {
        return output_of(words);
      } catch (const Error& error) {
        if (failures == kMostCalls || is_refusal(error.what())) throw;
        tell(error);
      }
      wait(options_.pause * (1 << (failures - 1)));
    }
  }

  // While the sweep is stopping, the signal for that has come already.
  void wait(Pause pause) const {
    for (const auto end = Clock::now() + pause; Clock::now() < end; std::this_thread::sleep_for(Pause(10))) {
      const int signal = interrupt_requested();
      if (signal != 0 && !stopping_) throw Interrupted(signal, "interrupted while starting the tasks of the sweep");
    }
  }

  void ask_again_after(int pauses) { next_question_ = Clock::now() + options_.pause * pauses; }
  void tell(const Error& error) { news_.lines.push_back(std::string(error.what()) + "; it is called again"); }

  LauncherOptions options_;
  const std::string job_name_;  // of this launcher alone
  bool submitted_ = false, stopping_ = false;
  int64_t alive_ = 0;
  int failures_ = 0;  // of squeue, in a row
  Clock::time_point next_question_;
  WorkerNews news_;
};

}  // namespace

std::unique_ptr<Launcher> slurm_launcher(const LauncherOptions& options) {
  return std::make_unique<SlurmLauncher>(options);
}

}  // namespace klab
