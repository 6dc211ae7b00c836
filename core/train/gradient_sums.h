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
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/model/decoder.h"
#include "core/parallel/rank_group.h"

namespace klab {

/// How gradients are summed over ranks.
struct GradientOptions {
  /// ZeRO-1: every parameter has an owner, which alone receives its gradient, updates it and has its optimiser state;
  /// the others get the new weights. Otherwise every rank receives every gradient.
  bool sharded = false;
  int64_t bucket_bytes = int64_t{25} << 20;  ///< gradients that are sent together
};

/// Sums are pairwise, (p0 + p1) + (p2 + p3), over the parts of all ranks in order: equal to the bit for every number of
/// ranks that is a power of two and divides the number of parts. Gradients of the last part are sent bucket by bucket
/// from another thread, each as soon as the backward pass has completed it.
class GradientSums {
 public:
  /// Sums gradients of the trained parameters of `model`, in float32. `computing`: the model that computes the steps,
  /// `model` itself or its copy in another dtype.
  GradientSums(const Decoder& model, const Decoder& computing, std::shared_ptr<RankGroup> ranks,
               const GradientOptions& options);
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
  /// After an update, if sharded: gives the weights of owned parameters to all ranks.
  void share_weights();

  /// Copies of all gradients that are kept between parts.
  static int64_t kept_copies(int64_t parts);

 private:
  struct Parameter {
    std::string name;
    torch::Tensor weight, computed;
    std::shared_ptr<torch::autograd::Node> accumulator;  // of the gradient of `computed`
    int64_t owner = 0;
    size_t bucket = 0;
  };
  struct Bucket {
    std::vector<size_t> parameters;  // by owner
    std::vector<int64_t> sizes;      // floats sent to each rank
    size_t missing = 0;              // gradients not yet complete
  };
  using Gradients = std::vector<torch::Tensor>;

  void make_buckets();
  void watch_gradients();
  void complete(size_t parameter);
  void take_gradient(Parameter& parameter) const;
  void add_kept(size_t parameter);
  void send_buckets();
  torch::Tensor from_all(const torch::Tensor& own, const std::vector<int64_t>& sizes) const;
  void send(Bucket& bucket);
  torch::Tensor packed(const Bucket& bucket) const;
  void unpack(const Bucket& bucket, const torch::Tensor& sums, int64_t owner, int64_t begin);

  std::shared_ptr<RankGroup> ranks_;
  GradientOptions options_;
  std::vector<Parameter> parameters_;
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

}  // namespace klab
