// SPDX-License-Identifier: Apache-2.0
// A group of processes (ranks) that compute together, on torch's c10d: Gloo on CPUs, NCCL on GPUs.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/parallel/rank_environment.h"
#include "core/parallel/rank_watch.h"

namespace c10d {
class Backend;
class ProcessGroup;
}  // namespace c10d

namespace klab {

/// All members are operations of all ranks: every rank must call them in the same order, on one thread at a time.
/// Results do not depend on timing: sums are formed in the order of ranks. In a group of one rank nothing is sent.
/// Throws RankFailure that names the rank that failed or did not come.
class RankGroup {
 public:
  /// This process alone.
  RankGroup();
  ~RankGroup();
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  /// All ranks of the job; waits until they are there. `limit`: for every operation. Throws Error that names the ranks
  /// which did not come, or which were started otherwise.
  static std::shared_ptr<RankGroup> join(const RankEnvironment& environment, std::chrono::seconds limit);
  /// Over a store that exists. `address`: at which the others reach this rank.
  static std::shared_ptr<RankGroup> join(const std::shared_ptr<Store>& store, int64_t rank, int64_t size,
                                         std::chrono::seconds limit, bool serves_store = false,
                                         const std::string& address = "127.0.0.1");

  /// The group of some of this group's ranks, this one among them: an operation of these ranks alone. `name`: one that
  /// no other group has, the same on its ranks.
  std::shared_ptr<RankGroup> of_ranks(const std::vector<int64_t>& ranks, const std::string& name) const;

  int64_t rank() const { return rank_; }
  int64_t size() const { return size_; }
  bool first() const { return rank_ == 0; }
  bool alone() const { return size_ == 1; }

  void barrier();

  /// x of every rank, [size, ..]; the same shape and dtype on all ranks.
  at::Tensor gather(const at::Tensor& x);
  std::vector<std::string> gather_text(const std::string& text);

  /// Sends sent[r] rows of x [sum of sent, ..] to rank r, in order; returns the rows received, [sum of received, ..].
  at::Tensor exchange(const at::Tensor& x, const std::vector<int64_t>& sent, const std::vector<int64_t>& received);

  /// Replaces x on every rank by that of rank `from`.
  void broadcast(const at::Tensor& x, int64_t from);

  /// Throws Error that names a rank whose text differs from that of rank 0.
  void require_same(const std::string& what, const std::string& text);

  /// Sum and maximum over ranks, for small tensors: all ranks receive all parts.
  at::Tensor sum(const at::Tensor& x);
  at::Tensor largest(const at::Tensor& x);

  /// The group as torch's own, for torch's tools; not of one rank.
  c10::intrusive_ptr<c10d::ProcessGroup> torch_group() const;

  /// Bytes that this rank has sent in this group.
  int64_t bytes_sent() const { return bytes_sent_; }

  /// Runs a part of this rank's work in which the others may wait for it: when it throws, they fail with its message.
  void guard(const std::function<void()>& work);
  /// Runs the whole work of this rank, in the same way; at its end waits for the others if this process serves the
  /// store.
  void run(const std::function<void()>& work);

 private:
  struct Job;
  RankGroup(std::shared_ptr<Job> job, const std::string& name, int64_t rank, int64_t size);
  c10d::Backend& backend_for(const at::Tensor& x);
  template <class Operation>
  void operate(const Operation& operation);

  std::shared_ptr<Job> job_;  // null if alone
  std::string name_;
  c10::intrusive_ptr<c10d::Backend> gloo_, nccl_;  // nccl_ is null until the first tensor on a GPU
  int64_t rank_ = 0, size_ = 1;
  int64_t bytes_sent_ = 0;
};

/// The sum of tensors of one shape in a fixed order, pairwise: (x0 + x1) + (x2 + x3).
at::Tensor pairwise_sum(std::vector<at::Tensor> parts);

}  // namespace klab
