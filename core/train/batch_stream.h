// Batches made ahead on another thread, so that training never waits for data.
#pragma once

#include <torch/types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace klab {

struct Batch {
  torch::Tensor inputs;           ///< [B, T] int64
  torch::Tensor labels;           ///< [B, T] int64; negative where there is no target
  torch::Tensor difficulty = {};  ///< [B, T] int64, of each target by the task's measure; may be undefined
};

/// Batch number `index` of a stream: a pure function, so that a position in the data is one number.
using BatchSource = std::function<Batch(int64_t index)>;

/// Calls a BatchSource for first, first + 1, ... on a thread of its own, a few batches ahead.
class BatchStream {
 public:
  BatchStream(BatchSource source, int64_t first, size_t ahead = 4);
  ~BatchStream();
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  /// The next batch. Rethrows what the source threw.
  Batch next();

  /// Seconds that `next` has waited in all.
  double waited() const { return waited_; }

 private:
  void produce();

  BatchSource source_;
  int64_t index_;
  size_t ahead_;
  double waited_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;  // last: starts when everything else is there
};

}  // namespace klab
