// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/launch.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <optional>
#include <thread>

#include "core/base/interrupt.h"
#include "core/base/process.h"
#include "core/parallel/store.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLaunchPoll{20};
constexpr std::chrono::seconds kEnd{10}, kKill{5};  // after a failure: until SIGTERM, and until SIGKILL

class Job {
 public:
  Job(int64_t count, const std::vector<std::string>& words, int threads) : store_(Store::serve()) {
    std::vector<std::string> command{std::filesystem::read_symlink("/proc/self/exe").string()};
    command.insert(command.end(), words.begin(), words.end());
    const auto cores = static_cast<int64_t>(std::thread::hardware_concurrency());
    if (threads == 0) command.push_back(fmt::format("--threads={}", std::max<int64_t>(1, cores / count)));
    for (int64_t rank = 0; rank < count; ++rank) {
      Redirection files;
      files.inherit = rank == 0;
      files.own_group = true;
      files.environment = {{"RANK", fmt::format("{}", rank)},
                           {"LOCAL_RANK", fmt::format("{}", rank)},
                           {"WORLD_SIZE", fmt::format("{}", count)},
                           {"MASTER_ADDR", "127.0.0.1"},
                           {"MASTER_PORT", fmt::format("{}", store_->port())},
                           {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
      ranks_.emplace_back(command, files);
    }
    seen_.resize(ranks_.size());
  }

  int wait() {
    for (bool over = false; !over;) {
      std::this_thread::sleep_for(kLaunchPoll);
      relay_lines();
      pass_on_signal();
      for (size_t rank = 0; rank < ranks_.size(); ++rank) look_at(rank);
      if (failed_) end_others();
      over = std::find(seen_.begin(), seen_.end(), false) == seen_.end();
    }
    relay_lines();
    return code_;
  }

 private:
  void relay_lines() {
    for (size_t rank = 1; rank < ranks_.size(); ++rank) {
      for (const std::string& line : ranks_[rank].lines()) fmt::print(stderr, "rank {}: {}\n", rank, line);
    }
  }

  void pass_on_signal() {
    const int signal = interrupt_requested();
    if (signal == 0 || signal == passed_on_) return;
    passed_on_ = signal;
    for (const Process& rank : ranks_) rank.signal(signal);
  }

  // When a rank has ended: remembers its exit code. Usage errors, which several ranks may find, have a larger one than
  // the failures that follow from them.
  void look_at(size_t rank) {
    if (seen_[rank] || !ranks_[rank].ended()) return;
    seen_[rank] = true;
    const int outcome = ranks_[rank].outcome();
    if (outcome == 0 || sent_ != 0) return;
    if (outcome < 0) fmt::print(stderr, "klab: rank {} was killed by signal {}\n", rank, -outcome);
    code_ = std::max(code_, outcome < 0 ? 128 - outcome : outcome);
    if (!failed_) failed_ = Clock::now();
  }

  void end_others() {
    const auto since = Clock::now() - *failed_;
    const int signal = since > kEnd + kKill ? SIGKILL : since > kEnd ? SIGTERM : 0;
    if (signal == sent_) return;
    sent_ = signal;
    for (const Process& rank : ranks_) rank.signal(signal);
  }

  std::shared_ptr<Store> store_;
  std::vector<Process> ranks_;
  std::optional<Clock::time_point> failed_;
  std::vector<bool> seen_;
  int code_ = 0, passed_on_ = 0, sent_ = 0;
};

}  // namespace

int launch_ranks(int64_t count, const std::vector<std::string>& words, int threads) {
  return Job(count, words, threads).wait();
}

}  // namespace klab
