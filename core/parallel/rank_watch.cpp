// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/rank_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/base/message.h"
#include "core/base/text.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kBeat{1000}, kWatchPoll{50};
constexpr milliseconds kSilence{3500};  // no beat for so long: the rank does not live
constexpr milliseconds kOwnEnd{5000};   // to fail in an operation of all ranks, before the process is ended
constexpr milliseconds kAnswer{15000};  // for all that is asked of the store before an end

constexpr const char* kStoreLost =
    "the process that serves the store, which is rank 0 or the launcher, has ended or cannot be reached";

std::string key_of(const char* what, int64_t rank) { return fmt::format("{}/{}", what, rank); }

[[noreturn]] void end_process(int64_t rank, const std::string& why) {
  print_message("klab: rank {} ends: {}", rank, why);
  std::fflush(nullptr);
  ::_exit(1);
}

// Ends the process unless this object's life ends in time. Torch waits without limit for the answer of a store that
// cannot be reached any more.
class AnswerLimit {
 public:
  AnswerLimit(int64_t rank, const std::string& why)
      : thread_([this, rank, why] {
          std::unique_lock lock(mutex_);
          if (!changed_.wait_for(lock, kAnswer, [this] { return stop_; })) end_process(rank, why);
        }) {}
  ~AnswerLimit() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  AnswerLimit(const AnswerLimit&) = delete;
  AnswerLimit& operator=(const AnswerLimit&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false;
  std::thread thread_;  // last member
};

}  // namespace

RankWatch::RankWatch(const Store& store, int64_t rank, int64_t size, std::chrono::seconds limit)
    : store_(store.again()), beats_(store.again()), rank_(rank), size_(size), limit_(limit), thread_([this] {
        beat();
      }) {}

RankWatch::~RankWatch() {
  const AnswerLimit limit(rank_, kStoreLost);
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void RankWatch::beat() {
  try {
    for (int64_t count = 1;; ++count) {
      beats_->set(key_of("alive", rank_), fmt::format("{} {}", count, operations_.load()));
      if (beats_->get("failed")) end_if_it_goes_on(reported(*beats_));
      std::unique_lock lock(mutex_);
      if (changed_.wait_for(lock, kBeat, [this] { return stop_; })) return;
    }
  } catch (const std::exception&) {
    end_if_it_goes_on(kStoreLost);
  }
}

// Ends the process unless it begins to end by itself, soon.
void RankWatch::end_if_it_goes_on(const std::string& why) {
  {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kOwnEnd, [this] { return stop_ || ending_; })) return;
  }
  end_process(rank_, why);
}

void RankWatch::begin_to_end() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
}

void RankWatch::report(const std::string& error) {
  begin_to_end();
  const AnswerLimit limit(rank_, error);
  try {
    store_->set(key_of("failed", rank_), error);
    store_->set("failed", "");
  } catch (const std::exception&) {  // the store is lost: the others know
  }
}

// The messages of the ranks that have reported failures, or "".
std::string RankWatch::reported(Store& store) const {
  for (int64_t rank = 0; rank < size_; ++rank) {
    const auto error = store.get(key_of("failed", rank));
    if (rank != rank_ && error) return fmt::format("rank {} failed: {}", rank, *error);
  }
  return "";
}

RankWatch::Life RankWatch::life_of(int64_t rank) {
  const std::string text = store_->get(key_of("alive", rank)).value_or("0 0");
  return {text, std::strtoll(text.c_str() + text.find(' '), nullptr, 10)};
}

std::string RankWatch::who_is_missing() {
  std::vector<std::string> before;
  for (int64_t rank = 0; rank < size_; ++rank) before.push_back(life_of(rank).beat);
  const auto end = Clock::now() + kSilence;
  while (Clock::now() < end) {
    const std::string why = reported(*store_);
    if (!why.empty()) return why;
    std::this_thread::sleep_for(kWatchPoll);
  }
  std::vector<std::string> silent, late;
  for (int64_t rank = 0; rank < size_; ++rank) {
    const Life now = life_of(rank);
    const bool left = store_->get(key_of("left", rank)).has_value();
    if (rank == rank_) continue;
    if (now.beat == before[static_cast<size_t>(rank)] && !left) silent.push_back(fmt::format("{}", rank));
    if (now.operations < operations_) late.push_back(fmt::format("{}", rank));
  }
  if (!silent.empty()) {
    return fmt::format("rank {} gives no sign of life: it was killed, or its machine is unreachable or stopped",
                       join(silent));
  }
  if (!late.empty()) {
    return fmt::format("rank {} lives, but did not come to an operation of all ranks within {} s", join(late),
                       limit_.count());
  }
  return "";
}

std::string RankWatch::explain(const std::string& error) {
  begin_to_end();
  const AnswerLimit limit(rank_, kStoreLost);
  try {
    const std::string who = who_is_missing();
    return who.empty() ? error : who;
  } catch (const std::exception&) {
    return kStoreLost;
  }
}

void RankWatch::leave(bool serves_store, bool failed) {
  begin_to_end();  // and the end of others is no failure any more
  try {
    store_->set(key_of("left", rank_), "");
    const auto end = Clock::now() + (failed ? kOwnEnd + kSilence : limit_);
    for (int64_t rank = 0; serves_store && rank < size_; ++rank) {
      while (!store_->get(key_of("left", rank)) && Clock::now() < end) {
        if (!failed && store_->get("failed")) return leave(serves_store, /*failed=*/true);
        std::this_thread::sleep_for(kWatchPoll);
      }
    }
  } catch (const std::exception&) {  // the store is lost, and nothing more is needed from it
  }
}

}  // namespace klab
