// SPDX-License-Identifier: Apache-2.0
// The gradients of a step: sums over the parts of a batch, on one rank or several.
#pragma once

#include <torch/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/model/decoder.h"
#include "core/parallel/parallelism.h"

namespace klab {

/// The bytes of gradients that are sent together: a sixteenth of all, so that most of them are on their way before the
/// backward pass ends, but at least 1 MB and at most 25 MB.
int64_t usual_bucket_bytes(int64_t gradient_bytes);

/// Sums are pairwise, (p0 + p1) + (p2 + p3), over the parts of all ranks in order: equal to the bit for every number of
/// ranks that is a power of two and divides the number of parts. Gradients of the last part are sent bucket by bucket
/// from another thread, each as soon as the backward pass has completed it. Gradients of experts that are spread over
/// ranks are summed over the ranks with the same experts alone.
///
/// ZeRO-1 (Parallelism::shard_optimizer): every parameter has an owner, which alone receives its gradient, updates it
/// and has its optimiser state; the others get the new weights. If the steps are computed in another dtype than
/// float32, they get them in that dtype, and only the owner has the float32 weights (see drop_weights()). Otherwise
/// every rank receives every gradient.
class GradientSums {
 public:
  /// Sums gradients of the trained parameters of `model`, in float32. `computing`: the model that computes the steps,
  /// `model` itself or its copy in another dtype.
  GradientSums(const Decoder& model, const Decoder& computing, const Parallelism& parallelism,
               std::optional<int64_t> bucket_bytes = std::nullopt);
  ~GradientSums();
  GradientSums(const GradientSums&) = delete;
  GradientSums& operator=(const GradientSums&) = delete;

  /// Before the first part of a step: forgets the gradients of the step before.
  void begin_step();
  /// After the backward pass of every part but the last: keeps its gradients.
  void end_part();
  /// Around the backward pass of this rank's last part. After it the sums are the gradients of `model`'s parameters (of
  /// the owned ones, if sharded); a parameter without gradient on every rank has none.
  void begin_last_part();
  void end_last_part();

  /// Scales the sums so that their norm over all parameters is at most `limit`; returns the norm before, which may not
  /// be finite.
  double clip_norm(double limit);

  /// Whether this rank updates the parameter.
  bool owns(const std::string& parameter) const;
  /// After an update, if sharded: gives the owned parameters of the computing model to all ranks.
  void share_weights();
  /// If sharded: frees the float32 weights that another rank owns and that the computing model has in its dtype.
  void drop_weights();
  /// Gives those weights to all ranks again.
  void gather_weights();

  /// Copies of all gradients that are kept between parts.
  static int64_t kept_copies(int64_t parts);

 private:
  struct Parameter {
    std::string name;
    torch::Tensor weight, computed;
    std::shared_ptr<torch::autograd::Node> accumulator;  // of the gradient of `computed`
    RankGroup* ranks = nullptr;                          // over which its gradient is summed
    size_t place = 0;                                    // among the trained parameters of all ranks, matrices first
    int64_t owner = 0;
    size_t bucket = 0;
  };
  struct Bucket {
    RankGroup* ranks = nullptr;
    std::vector<size_t> parameters{};  // by owner
    std::vector<int64_t> sizes{};      // floats sent to each rank
    int64_t bytes = 0;
    size_t missing = 0;  // gradients not yet complete
  };
  using Gradients = std::vector<torch::Tensor>;
  using TensorOf = torch::Tensor(const Parameter& parameter);

  void find_parameters(const Decoder& model, const Decoder& computing);
  void make_buckets();
  void sort_by_owner(Bucket& bucket) const;
  void watch_gradients();
  void complete(size_t parameter);
  void take_gradient(Parameter& parameter) const;
  void add_kept(size_t parameter);
  void send_buckets();
  void send(Bucket& bucket);
  torch::Tensor packed(const Bucket& bucket) const;
  void unpack(const Bucket& bucket, const torch::Tensor& sums, int64_t owner, int64_t begin);
  bool dropped(const Parameter& parameter) const;
  void share(TensorOf* tensor_of);
  torch::TensorOptions float_options() const;

  std::shared_ptr<RankGroup> ranks_, replicas_;  // all, and those with the same experts
  bool spread_, sharded_;                        // experts, the optimiser
  int64_t bucket_bytes_ = 0;
  std::vector<Parameter> parameters_;
  size_t places_ = 0;
  std::vector<Bucket> buckets_;
  std::vector<std::pair<int64_t, Gradients>> kept_;  // sums of 2^n parts, smaller ones last
  int64_t parts_ = 0;

  // Shared with the sending thread.
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> last_part_{false};
  std::exception_ptr error_;
  std::thread sender_;
};

/// While it lives, every rank has all weights; made and ended by all ranks.
class WholeWeights {
 public:
  explicit WholeWeights(GradientSums& sums) : sums_(sums) { sums_.gather_weights(); }
  ~WholeWeights() { sums_.drop_weights(); }
  WholeWeights(const WholeWeights&) = delete;
  WholeWeights& operator=(const WholeWeights&) = delete;

 private:
  GradientSums& sums_;
};

}  // namespace klab
