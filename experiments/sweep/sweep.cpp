// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/sweep.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "core/base/csv.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/lock.h"
#include "core/base/message.h"
#include "core/base/provenance.h"
#include "experiments/sweep/board.h"
#include "experiments/sweep/launcher.h"
#include "experiments/sweep/sweep_file.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLookEvery{100};
// The more runs there are, or the slower their file system is, the more rarely records are read: a twentieth of the
// time at most.
constexpr std::chrono::milliseconds kReadEvery{500};
constexpr int kRestOverReading = 20;
constexpr int kMaxFailedStarts = 5;
constexpr int64_t kMostTasks = 1000;  // Slurm's default MaxArraySize

// The number of cores that this process may use.
int64_t cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return std::max(1u, std::thread::hardware_concurrency());
  return CPU_COUNT(&set);
}

// One thread per run is the most efficient, because small models gain little from more. The number may depend only on
// the sweep and the machine, because results depend on it bitwise.
int64_t choose_threads(const SweepOptions& options, int64_t runs) {
  if (options.threads > 0) return options.threads;
  return options.launcher == "local" ? std::max<int64_t>(1, cores() / runs) : 1;
}

int64_t choose_workers(const SweepOptions& options, int64_t threads, int64_t left) {
  const int64_t most = options.launcher == "local" ? std::max<int64_t>(1, cores() / threads) : kMostTasks;
  return std::min(options.workers > 0 ? options.workers : most, left);
}

void check_threads(const SweepFolder& folder, const Plan& plan) {
  if (!fs::exists(folder.plan())) return;
  const Plan before = folder.read_plan();
  if (before.threads == plan.threads) return;
  refuse(
      "'{}' contains a sweep whose runs use {} threads each, not {}: results depend on it bitwise. Use --threads {}, "
      "or "
      "another --out",
      folder.path(), before.threads, plan.threads, before.threads);
}

// Writes the folders and configs of the runs, then the plan, so that workers find every run of the plan.
std::vector<RunRecord> prepare(const SweepFolder& folder, const Plan& plan, std::vector<RunConfig>& configs) {
  std::vector<RunRecord> records;
  for (size_t i = 0; i < plan.runs.size(); ++i) {
    const std::string& id = plan.runs[i].id;
    make_writable_folder(folder.run(id).path);
    if (!fs::exists(folder.config(id))) write_file(folder.config(id), to_yaml(configs[i]));
    RunRecord record = folder.read(id);
    if (record.state == RunState::failed) {  // retry: the reason may no longer exist
      record = {};
      folder.write(id, record);
    }
    records.push_back(record);
  }
  const std::string text = to_text(plan);
  if (!fs::exists(folder.plan()) || read_file(folder.plan()) != text) write_file(folder.plan(), text);
  return records;
}

// Starts workers while runs are left, and monitors them.
class Conductor {
 public:
  Conductor(const SweepFolder& folder, const SweepOptions& options, SweepOutcome& outcome)
      : folder_(folder),
        options_(options),
        outcome_(outcome),
        board_(outcome.plan, outcome.records, options.quiet),
        end_(Clock::now() + std::chrono::milliseconds(static_cast<int64_t>(options.budget_hours * 3.6e6))),
        stamps_(outcome.records.size()) {
    LauncherOptions how;
    how.folder = options.out;
    how.device = options.device;
    how.threads = outcome.plan.threads;
    how.slurm = options.slurm;
    launcher_ = options.launcher == "slurm" ? slurm_launcher(how) : local_launcher(how);
  }

  // When it ends with an exception, all workers are stopped.
  void run() {
    try {
      run_workers();
    } catch (const Interrupted&) {
      stop();
      throw;
    } catch (const std::exception& error) {
      stop_after(error);
      throw;
    }
    board_.draw(outcome_.records, 0);
  }

 private:
  void run_workers() {
    while (unfinished() > 0) {
      const int64_t left = unfinished();
      launcher_->start(choose_workers(options_, outcome_.plan.threads, left));
      watch();
      if (outcome_.out_of_time) return;
      if (unfinished() == left) give_up();
    }
  }

  int64_t unfinished() const {
    return std::count_if(outcome_.records.begin(), outcome_.records.end(),
                         [](const RunRecord& record) { return !is_over(record.state); });
  }

  // Reads the records that have changed.
  void refresh() {
    const Clock::time_point begin = Clock::now();
    for (size_t i = 0; i < outcome_.records.size(); ++i) {
      if (is_over(outcome_.records[i].state)) continue;
      const RunFolder run = folder_.run(outcome_.plan.runs[i].id);
      const FileStamp stamp = stamp_of(run.record());
      if (stamp == stamps_[i]) continue;
      outcome_.records[i] = read_record(run);
      stamps_[i] = stamp;
    }
    const Clock::time_point end = Clock::now();
    next_reading_ = end + std::max<Clock::duration>(kReadEvery, kRestOverReading * (end - begin));
  }

  void refresh_and_draw() {
    refresh();
    board_.draw(outcome_.records, launcher_->alive());
  }

  void stop() {
    if (stopped_) return;
    stopped_ = true;
    launcher_->stop();
    refresh();
  }

  // An error of stopping comes after the error that is the reason for it.
  void stop_after(const std::exception& reason) {
    try {
      stop();
    } catch (const Error& error) {
      fail("{}; {}", reason.what(), error.what());
    }
  }

  void stop_for(int signal) {
    stop();
    throw Interrupted(signal, fmt::format("interrupted: {} of {} runs are left; repeat the command to continue",
                                          unfinished(), outcome_.records.size()));
  }

  // Returns when all workers have ended.
  void watch() {
    for (bool over = false; !over;) {
      over = launcher_->alive() == 0;
      on_news(launcher_->look());
      if (over || Clock::now() >= next_reading_) refresh_and_draw();
      if (const int signal = interrupt_requested()) stop_for(signal);
      if (options_.budget_hours > 0 && Clock::now() > end_ && unfinished() > 0) {
        stop();
        outcome_.out_of_time = true;
        return;
      }
      if (!over) std::this_thread::sleep_for(kLookEvery);
    }
  }

  void on_news(const WorkerNews& news) {
    for (const std::string& line : news.lines) board_.note(line);
    for (const WorkerNews::Loss& loss : news.losses) {
      if (loss.run.empty()) {
        if (++failed_starts_ > kMaxFailedStarts) fail("workers end before they start a run: {}", loss.reason);
        launcher_->start(1);
        continue;
      }
      RunRecord record = folder_.read(loss.run);
      record.state = RunState::failed;
      record.reason = loss.reason;
      folder_.write(loss.run, record);
      if (launcher_->alive() < unfinished()) launcher_->start(1);
    }
    if (!news.folder_lost.empty()) {
      fail("{}. '{}' cannot be written; repeat the command to continue when it can", news.folder_lost, folder_.path());
    }
  }

  // All workers ended without finishing a run.
  void give_up() {
    if (options_.launcher == "slurm") {
      fail(
          "the tasks of the job array ended before their runs did: see '{}/slurm-*.out'; repeat the command to "
          "continue",
          folder_.path());
    }
    fail("the workers ended before their runs did: is another process using '{}'?", folder_.path());
  }

  const SweepFolder& folder_;
  const SweepOptions& options_;
  SweepOutcome& outcome_;
  SweepBoard board_;
  Clock::time_point end_;
  std::unique_ptr<Launcher> launcher_;
  bool stopped_ = false;
  std::vector<FileStamp> stamps_;  // of the records
  Clock::time_point next_reading_;
  int failed_starts_ = 0;  // workers that ended before starting a run
};

}  // namespace

int64_t SweepOutcome::failures() const {
  return std::count_if(records.begin(), records.end(), [](const RunRecord& record) {
    return record.state == RunState::diverged || record.state == RunState::failed;
  });
}

bool SweepOutcome::complete() const {
  return std::all_of(records.begin(), records.end(), [](const RunRecord& record) { return is_over(record.state); });
}

SweepOutcome read_outcome(const SweepFolder& folder) {
  if (!fs::exists(folder.plan())) refuse("'{}' is not the folder of a sweep: it has no plan.json", folder.path());
  SweepOutcome outcome{folder.read_plan(), {}, false};
  for (const PlannedRun& run : outcome.plan.runs) outcome.records.push_back(folder.read(run.id));
  return outcome;
}

namespace {

// After another error, which is the one to tell.
void write_results_if_possible(const SweepFolder& folder, const SweepOutcome& outcome,
                               const std::vector<std::string>& lines) {
  try {
    write_results(folder, outcome, lines);
  } catch (const std::exception& error) {
    print_message("klab: the results so far are not written: {}", error.what());
  }
}

}  // namespace

SweepOutcome run_sweep(Sweep sweep, const SweepOptions& options) {
  if (options.launcher == "slurm") require_free_slurm_options(options.slurm);
  const SweepFolder folder(options.out);
  make_writable_folder(folder.path());
  const auto lock = Lock::take(folder.lock());
  if (!lock) refuse("the sweep in '{}' is being run by {}", folder.path(), Lock::holder(folder.lock()));
  sweep.plan.threads = choose_threads(options, static_cast<int64_t>(sweep.plan.runs.size()));
  check_threads(folder, sweep.plan);
  SweepOutcome outcome{sweep.plan, prepare(folder, sweep.plan, sweep.configs), false};
  sweep.configs = {};
  const auto lines = provenance(options.command_line, static_cast<int>(sweep.plan.threads));
  Conductor conductor(folder, options, outcome);
  try {
    conductor.run();
  } catch (const std::exception&) {
    write_results_if_possible(folder, outcome, lines);
    throw;
  }
  write_results(folder, outcome, lines);
  return outcome;
}

}  // namespace klab
