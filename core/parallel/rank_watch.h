// SPDX-License-Identifier: Apache-2.0
// Signs of life of all ranks, so that a failure names the rank that failed and why.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/base/error.h"
#include "core/parallel/store.h"

namespace klab {

/// Another rank failed, or did not come to an operation of all ranks within the time limit.
struct RankFailure : Error {
  using Error::Error;
};

/// Every rank writes to the store, once per second and on a thread of its own, that it lives and how many operations of
/// all ranks it has begun. When a rank has reported a failure, or the store is lost, the others get a few seconds to
/// fail in an operation of theirs, and are then ended; so is a rank that waits for a store which cannot be reached.
class RankWatch {
 public:
  RankWatch(const Store& store, int64_t rank, int64_t size, std::chrono::seconds limit);
  ~RankWatch();
  RankWatch(const RankWatch&) = delete;
  RankWatch& operator=(const RankWatch&) = delete;

  /// For the begin of every operation of all ranks.
  void count_operation() { ++operations_; }

  /// Tells the others that this rank has failed.
  void report(const std::string& error);

  /// After an operation of all ranks has failed here with `error`: which rank failed and how.
  std::string explain(const std::string& error);

  /// For the end of this rank's work, after which it need not live. If it serves the store it waits for the others,
  /// but not for long if it `failed`.
  void leave(bool serves_store, bool failed);

 private:
  struct Life {
    std::string beat;  // changes while the rank lives
    int64_t operations = 0;
  };

  void beat();
  void end_if_it_goes_on(const std::string& why);
  void begin_to_end();
  Life life_of(int64_t rank);
  std::string reported(Store& store) const;
  std::string who_is_missing();

  std::shared_ptr<Store> store_, beats_;  // connections of the callers' thread and of the other one
  int64_t rank_, size_;
  std::chrono::seconds limit_;
  std::atomic<int64_t> operations_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stop_ = false, ending_ = false;
  std::thread thread_;  // last member: starts after all others are initialised
};

}  // namespace klab
