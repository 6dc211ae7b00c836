// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/worker.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "core/base/interrupt.h"
#include "core/base/lock.h"
#include "core/base/message.h"
#include "core/base/provenance.h"
#include "experiments/run/device.h"
#include "experiments/run/run.h"
#include "experiments/sweep/folder.h"
#include "experiments/sweep/halving.h"
#include "experiments/sweep/report_book.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLookAgain{200};

class Worker {
 public:
  Worker(const SweepFolder& folder, std::string device, std::string command_line)
      : folder_(folder),
        device_(std::move(device)),
        command_line_(std::move(command_line)),
        plan_(folder_.read_plan()),
        reports_(folder_, plan_),
        done_(plan_.runs.size()) {}

  void work() {
    for (;;) {
      bool taken = false, parked = false;
      for (size_t i = 0; i < plan_.runs.size(); ++i) {
        if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted");
        if (done_[i]) continue;
        const Turn turn = take(i);
        taken = taken || turn == Turn::worked;
        parked = parked || turn == Turn::parked;
        if (turn == Turn::over || turn == Turn::worked) done_[i] = true;
        if (turn == Turn::worked && plan_.halving) break;  // look at parked runs again first, in the plan's order
      }
      // Runs locked by other workers are skipped; parked runs are checked again.
      if (!taken && !parked) return;
      if (!taken) std::this_thread::sleep_for(kLookAgain);
    }
  }

 private:
  enum class Turn { over, busy, parked, worked };

  Turn take(size_t i) {
    const std::string& id = plan_.runs[i].id;
    if (is_parked(i)) return Turn::parked;
    const RunRecord before = folder_.read(id);
    if (is_over(before.state)) return Turn::over;
    if (before.state == RunState::parked) parked_[i] = before.step;
    if (is_parked(i)) return Turn::parked;
    const auto lock = Lock::take(folder_.run(id).lock());
    if (!lock) return Turn::busy;
    RunRecord record = folder_.read(id);
    if (is_over(record.state)) return Turn::over;
    fmt::print("{}{}\n", kBegin, id);
    std::fflush(stdout);
    try {
      record = run(i);
    } catch (const Interrupted&) {
      throw;
    } catch (const std::exception& error) {
      throw FolderLost(error.what());
    }
    fmt::print("{}{}\n", kEnd, id);
    std::fflush(stdout);
    return record.state == RunState::parked ? Turn::parked : Turn::worked;
  }

  // No worker continues a run that still has to wait, so that its record need not be read again.
  bool is_parked(size_t i) {
    const auto found = parked_.find(i);
    if (found == parked_.end()) return false;
    if (verdict_at(i, found->second) == Promotion::wait) return true;
    parked_.erase(found);
    return false;
  }

  // Whether halving promotes a run at `step`.
  Promotion verdict_at(size_t i, int64_t step) {
    if (!plan_.halving) return Promotion::go_on;
    const auto& steps = plan_.halving->steps;
    const auto rung = static_cast<size_t>(std::find(steps.begin(), steps.end(), step) - steps.begin());
    if (rung == steps.size() || step >= plan_.runs[i].steps) return Promotion::go_on;
    const std::vector<Reports>& reports = reports_.for_judging(i, rung);
    return reports[i].values.size() <= rung ? Promotion::go_on : judge(plan_, reports, i, rung);
  }

  // Parks or stops a run that may not continue.
  static void apply(Promotion verdict, RunRecord& record) {
    if (verdict == Promotion::go_on) return;
    record.state = verdict == Promotion::wait ? RunState::parked : RunState::stopped;
    if (verdict == Promotion::stop) record.reason = fmt::format("not promoted at step {}", record.step);
  }

  RunRecord run(size_t i) {
    const std::string& id = plan_.runs[i].id;
    const RunOptions options{device_, provenance(command_line_, at::get_num_threads()), /*resume=*/true};
    const auto watch = [&](RunRecord& record, const TrainStatus* status, bool evaluated) {
      if (status == nullptr || evaluated) apply(verdict_at(i, record.step), record);
    };
    return train_run(folder_.run(id), options, watch);
  }

  const SweepFolder& folder_;
  std::string device_;
  std::string command_line_;
  Plan plan_;
  ReportBook reports_;
  std::vector<bool> done_;
  std::map<size_t, int64_t> parked_;  // runs that wait for earlier ones, and their steps
};

// Ends after the current step when the parent process ends.
void end_with(int64_t parent) {
  if (parent == 0) return;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::raise(SIGTERM);
}

}  // namespace

int run_sweep_worker(const std::string& path, int64_t parent, const std::string& device,
                     const std::string& command_line) {
  end_with(parent);
  const SweepFolder folder(path);
  open_device(device);  // fails before a run is started
  try {
    Worker(folder, device, command_line).work();
  } catch (const FolderLost& error) {
    print_message("{}", error.what());
    return kFolderLost;
  }
  return 0;
}

}  // namespace klab
