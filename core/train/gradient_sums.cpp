// SPDX-License-Identifier: Apache-2.0
#include "core/train/gradient_sums.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "core/train/optimizer.h"

namespace klab {

using torch::Tensor;

namespace {

// Adds a gradient to a sum; either may be undefined.
void add(Tensor& sum, const Tensor& part) {
  if (part.defined()) sum = sum.defined() ? sum.add_(part) : part;
}

}  // namespace

GradientSums::GradientSums(const Decoder& model, const Decoder& computing, std::shared_ptr<RankGroup> ranks,
                           const GradientOptions& options)
    : ranks_(std::move(ranks)), options_(options) {
  auto computed = computing->named_parameters();
  for (const TrainedParameter& one : trained_parameters(*model)) {
    parameters_.push_back({one.name, one.tensor, computed[one.name], nullptr});
  }
  if (ranks_->alone()) return;
  make_buckets();
  watch_gradients();
}

GradientSums::~GradientSums() {
  if (!sender_.joinable()) return;  // else a backward pass failed
  {
    const std::lock_guard lock(mutex_);
    error_ = std::make_exception_ptr(Error("the backward pass failed"));
  }
  changed_.notify_all();
  sender_.join();
}

// Parameters in the order in which the backward pass completes them; within a bucket by owner. The owner of each is the
// rank that owns least.
void GradientSums::make_buckets() {
  std::vector<int64_t> owned(static_cast<size_t>(ranks_->size()), 0);
  int64_t bytes = options_.bucket_bytes;  // full
  for (size_t i = parameters_.size(); i-- > 0;) {
    if (bytes >= options_.bucket_bytes) {
      buckets_.emplace_back();
      bytes = 0;
    }
    Parameter& parameter = parameters_[i];
    const auto least = std::min_element(owned.begin(), owned.end());
    parameter.owner = least - owned.begin();
    *least += parameter.weight.numel();
    bytes += parameter.weight.numel() * static_cast<int64_t>(sizeof(float));
    parameter.bucket = buckets_.size() - 1;
    buckets_.back().parameters.push_back(i);
  }
  for (Bucket& bucket : buckets_) {
    const auto owner = [&](size_t i) { return parameters_[i].owner; };
    std::stable_sort(bucket.parameters.begin(), bucket.parameters.end(),
                     [&](size_t a, size_t b) { return owner(a) < owner(b); });
    bucket.sizes.assign(static_cast<size_t>(ranks_->size()), 0);
    for (const size_t i : bucket.parameters) {
      bucket.sizes[static_cast<size_t>(owner(i))] += parameters_[i].weight.numel() + 1;  // and whether there is one
    }
  }
}

void GradientSums::watch_gradients() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = parameters_[i];
    parameter.accumulator = torch::autograd::impl::grad_accumulator(parameter.computed);
    const auto hook = [this, i](const auto& outputs, const auto&) {
      if (last_part_) complete(i);
      return outputs;
    };
    parameter.accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(hook));
  }
}

bool GradientSums::owns(const std::string& name) const {
  if (ranks_->alone() || !options_.sharded) return true;
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  return found != parameters_.end() && found->owner == ranks_->rank();
}

// Moves the gradient of the computing copy to the weights, in their dtype.
void GradientSums::take_gradient(Parameter& parameter) const {
  Tensor &sum = parameter.weight.mutable_grad(), &part = parameter.computed.mutable_grad();
  if (parameter.weight.is_same(parameter.computed) || !part.defined()) return;
  sum = sum.defined() ? sum.add_(part) : part.to(parameter.weight.scalar_type());
  part.reset();
}

int64_t GradientSums::kept_copies(int64_t parts) {
  int64_t copies = 0;
  for (int64_t pairs = (parts - 1) / 2; pairs > 0; pairs = (pairs - 1) / 2) ++copies;
  return copies;
}

void GradientSums::begin_step() {
  for (Parameter& parameter : parameters_) {
    parameter.weight.mutable_grad().reset();
    parameter.computed.mutable_grad().reset();
  }
  kept_.clear();
  parts_ = 0;
}

void GradientSums::end_part() {
  const torch::NoGradGuard no_grad;
  for (Parameter& parameter : parameters_) take_gradient(parameter);
  if (++parts_ % 2 == 1) return;  // the next part's gradients are added by autograd
  Gradients sums;
  for (Parameter& parameter : parameters_) sums.push_back(std::exchange(parameter.weight.mutable_grad(), {}));
  int64_t count = 2;
  for (; !kept_.empty() && kept_.back().first == count; count *= 2, kept_.pop_back()) {
    for (size_t i = 0; i < sums.size(); ++i) add(sums[i], kept_.back().second[i]);
  }
  kept_.emplace_back(count, std::move(sums));
}

void GradientSums::add_kept(size_t i) {
  for (auto kept = kept_.rbegin(); kept != kept_.rend(); ++kept) {
    add(parameters_[i].weight.mutable_grad(), std::exchange(kept->second[i], {}));
  }
}

void GradientSums::begin_last_part() {
  if (ranks_->alone()) return;
  for (Bucket& bucket : buckets_) bucket.missing = bucket.parameters.size();
  error_ = nullptr;
  last_part_ = true;
  sender_ = std::thread([this] { send_buckets(); });
}

// The gradient of a parameter on this rank is complete.
void GradientSums::complete(size_t i) {
  const torch::NoGradGuard no_grad;
  take_gradient(parameters_[i]);
  add_kept(i);
  const std::lock_guard lock(mutex_);
  if (--buckets_[parameters_[i].bucket].missing == 0) changed_.notify_all();
}

void GradientSums::end_last_part() {
  const torch::NoGradGuard no_grad;
  parts_ = 0;
  if (ranks_->alone()) {
    for (size_t i = 0; i < parameters_.size(); ++i) {
      take_gradient(parameters_[i]);
      add_kept(i);
    }
    kept_.clear();
    return;
  }
  last_part_ = false;
  for (size_t i = 0; i < parameters_.size(); ++i) add_kept(i);  // of parameters without gradient in the last part
  kept_.clear();
  {
    const std::lock_guard lock(mutex_);
    for (Bucket& bucket : buckets_) bucket.missing = 0;
  }
  changed_.notify_all();
  sender_.join();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

// On the sending thread: all buckets in order, which is the same on all ranks.
void GradientSums::send_buckets() {
  const torch::NoGradGuard no_grad;
  try {
    for (Bucket& bucket : buckets_) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return bucket.missing == 0 || error_; });
        if (error_) return;
      }
      send(bucket);
    }
  } catch (...) {
    const std::lock_guard lock(mutex_);
    error_ = std::current_exception();
  }
}

// For every owner its gradients, each followed by 1, or zeros and 0 if there is none.
Tensor GradientSums::packed(const Bucket& bucket) const {
  std::vector<Tensor> parts;
  for (const size_t i : bucket.parameters) {
    const Tensor& weight = parameters_[i].weight;
    const Tensor& gradient = weight.grad();
    parts.push_back(gradient.defined() ? gradient.reshape({-1}) : torch::zeros({weight.numel()}, weight.options()));
    parts.push_back(torch::full({1}, gradient.defined() ? 1 : 0, weight.options()));
  }
  return torch::cat(parts);
}

// Gives the parameters of one owner in the bucket their sums, which begin at `begin`.
void GradientSums::unpack(const Bucket& bucket, const Tensor& sums, int64_t owner, int64_t begin) {
  for (const size_t i : bucket.parameters) {
    Tensor weight = parameters_[i].weight;
    if (parameters_[i].owner != owner) continue;
    const int64_t count = weight.numel();
    const bool present = sums[begin + count].item<float>() > 0;
    weight.mutable_grad() = present ? sums.narrow(0, begin, count).view_as(weight) : Tensor();
    begin += count + 1;
  }
}

// `own` of every rank, one after the other; `sizes` of each.
Tensor GradientSums::from_all(const Tensor& own, const std::vector<int64_t>& sizes) const {
  const std::vector<int64_t> to_each(sizes.size(), own.numel());
  return ranks_->exchange(own.repeat({ranks_->size()}), to_each, sizes);
}

void GradientSums::send(Bucket& bucket) {
  const int64_t own = bucket.sizes[static_cast<size_t>(ranks_->rank())], ranks = ranks_->size();
  const std::vector<int64_t> from_each(static_cast<size_t>(ranks), own);
  const Tensor parts = ranks_->exchange(packed(bucket), bucket.sizes, from_each);
  const Tensor sum = pairwise_sum(parts.view({ranks, own}).unbind(0));
  if (options_.sharded) {
    for (const size_t i : bucket.parameters) parameters_[i].weight.mutable_grad().reset();
    return unpack(bucket, sum, ranks_->rank(), 0);
  }
  const Tensor all = from_all(sum, bucket.sizes);
  int64_t begin = 0;
  for (int64_t owner = 0; owner < ranks; begin += bucket.sizes[static_cast<size_t>(owner++)]) {
    unpack(bucket, all, owner, begin);
  }
}

double GradientSums::clip_norm(double limit) {
  const torch::NoGradGuard no_grad;
  std::vector<Tensor> norms, gradients;
  for (const bool matrices : {true, false}) {  // the order in which the norm is summed
    for (const Parameter& parameter : parameters_) {
      if ((parameter.weight.dim() >= 2) != matrices) continue;
      const Tensor& gradient = parameter.weight.grad();
      norms.push_back(gradient.defined() ? gradient.norm() : torch::zeros({}, parameter.weight.options()));
      if (gradient.defined()) gradients.push_back(gradient);
    }
  }
  Tensor all = torch::stack(norms);
  if (options_.sharded) all = ranks_->sum(all);  // each is not 0 on one rank alone
  const Tensor norm = all.norm();
  const Tensor factor = (limit / (norm + 1e-6)).clamp_max(1);
  for (Tensor& gradient : gradients) gradient.mul_(factor);
  return norm.item<double>();
}

void GradientSums::share_weights() {
  if (ranks_->alone() || !options_.sharded) return;
  const torch::NoGradGuard no_grad;
  for (const Bucket& bucket : buckets_) {
    std::vector<Tensor> own;
    std::vector<int64_t> sizes(static_cast<size_t>(ranks_->size()), 0);
    for (const size_t i : bucket.parameters) {
      const Parameter& parameter = parameters_[i];
      sizes[static_cast<size_t>(parameter.owner)] += parameter.weight.numel();
      if (parameter.owner == ranks_->rank()) own.push_back(parameter.weight.reshape({-1}));
    }
    const Tensor all = from_all(own.empty() ? torch::empty({0}) : torch::cat(own), sizes);
    int64_t begin = 0;
    for (const size_t i : bucket.parameters) {
      Tensor weight = parameters_[i].weight;
      weight.copy_(all.narrow(0, begin, weight.numel()).view_as(weight));
      begin += weight.numel();
    }
  }
}

}  // namespace klab
