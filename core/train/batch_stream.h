// SPDX-License-Identifier: Apache-2.0
// Batches prepared in advance on another thread, so that training does not wait for data.
#pragma once

#include <torch/types.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace klab {

struct ContextPart;  // core/model/context_part.h

struct Batch {
  torch::Tensor inputs;           ///< [B, T] int64
  torch::Tensor labels;           ///< [B, T] int64; negative for positions without a target
  torch::Tensor difficulty = {};  ///< [B, T] int64, the task's difficulty of each target; may be undefined
  /// [B, T] int64, 1 at the first position of each of a row's packed sequences, which do not see each other; undefined:
  /// every row is one sequence.
  torch::Tensor starts = {};
  torch::Tensor bytes = {};  ///< [B, T] int64, bytes of text that the target stands for; may be undefined
  torch::Tensor surprisal =
      {};  ///< [B, T] float64, -log of the target's probability under its source; may be undefined
  /// Set for this rank's part of a batch that is cut over ranks: then all tensors are [1, tokens], a part of the
  /// batch's rows one after the other, of `row_length` each.
  std::shared_ptr<const ContextPart> part = {};
  int64_t row_length = 0;

  /// The batch with `change` applied to every tensor that is defined.
  Batch map(const std::function<torch::Tensor(const torch::Tensor&)>& change) const {
    const auto changed = [&](const torch::Tensor& x) { return x.defined() ? change(x) : x; };
    return {changed(inputs),
            changed(labels),
            changed(difficulty),
            changed(starts),
            changed(bytes),
            changed(surprisal),
            part,
            row_length};
  }
};

/// Batch number `index` of a stream. A pure function, so that the position in the data is one number.
using BatchSource = std::function<Batch(int64_t index)>;

/// Calls a BatchSource for first, first + 1, ... on its own thread, up to `ahead` batches in advance.
class BatchStream {
 public:
  BatchStream(BatchSource source, int64_t first, size_t ahead = 4);
  ~BatchStream();
  BatchStream(const BatchStream&) = delete;
  BatchStream& operator=(const BatchStream&) = delete;

  /// The next batch. Rethrows exceptions of the source.
  Batch next();

  /// Total seconds that `next` has waited.
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
  std::thread thread_;  // last member: starts after all others are initialised
};

}  // namespace klab
