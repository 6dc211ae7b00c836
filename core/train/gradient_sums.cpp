// SPDX-License-Identifier: Apache-2.0
#include "core/train/gradient_sums.h"

#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/train/optimizer.h"

namespace klab {

using torch::Tensor;

namespace {

// Adds a gradient to a sum; either may be undefined.
void add(Tensor& sum, const Tensor& part) {
  if (part.defined()) sum = sum.defined() ? sum.add_(part) : part;
}

// `own` of every rank, one after the other; `sizes` of each.
Tensor from_all(RankGroup& ranks, const Tensor& own, const std::vector<int64_t>& sizes) {
  const std::vector<int64_t> to_each(sizes.size(), own.numel());
  return ranks.exchange(own.repeat({ranks.size()}), to_each, sizes);
}

// Replaces the memory of a tensor, whatever shares it, by new memory of that size.
void resize_memory(const Tensor& tensor, int64_t bytes) {
  c10::StorageImpl* storage = tensor.storage().unsafeGetStorageImpl();
  storage->set_data_ptr_noswap(c10::GetAllocator(tensor.device().type())->allocate(static_cast<size_t>(bytes)));
  storage->set_nbytes(static_cast<size_t>(bytes));
}

}  // namespace

int64_t usual_bucket_bytes(int64_t gradient_bytes) {
  constexpr int64_t kLeast = int64_t{1} << 20, kMost = int64_t{25} << 20, kBuckets = 16;
  return std::clamp(gradient_bytes / kBuckets, kLeast, kMost);
}

GradientSums::GradientSums(const Decoder& model, const Decoder& computing, const Parallelism& parallelism,
                           std::optional<int64_t> bucket_bytes)
    : ranks_(parallelism.ranks),
      replicas_(parallelism.replicas()),
      spread_(!parallelism.experts->alone()),
      sharded_(parallelism.shard_optimizer) {
  find_parameters(model, computing);
  int64_t gradient_bytes = 0;
  for (const Parameter& one : parameters_) gradient_bytes += one.weight.numel() * static_cast<int64_t>(sizeof(float));
  bucket_bytes_ = bucket_bytes.value_or(usual_bucket_bytes(gradient_bytes));
  if (ranks_->alone()) return;
  make_buckets();
  watch_gradients();
}

void GradientSums::find_parameters(const Decoder& model, const Decoder& computing) {
  std::map<std::string, size_t> places;
  const auto all = model->named_parameters();
  for (const bool matrices : {true, false}) {
    for (const auto& item : all) {
      const Tensor& one = item.value();
      if (one.requires_grad() && (one.dim() >= 2) == matrices) places[item.key()] = places_++;
    }
  }
  const std::set<std::string> experts = model->expert_parameters();
  auto computed = computing->named_parameters();
  for (const TrainedParameter& one : trained_parameters(*model)) {
    RankGroup* ranks = experts.contains(one.name) ? replicas_.get() : ranks_.get();
    parameters_.push_back({one.name, one.tensor, computed[one.name], nullptr, ranks, places.at(one.name)});
  }
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

// Parameters in the order in which the backward pass completes them, and buckets in that order of their last ones. The
// owner of each is the rank that owns least.
void GradientSums::make_buckets() {
  std::map<const RankGroup*, std::vector<int64_t>> owned;
  std::map<const RankGroup*, Bucket> open;
  const auto close = [&](Bucket& bucket) {
    if (bucket.parameters.empty()) return;
    for (const size_t i : bucket.parameters) parameters_[i].bucket = buckets_.size();
    sort_by_owner(bucket);
    buckets_.push_back(std::move(bucket));
  };
  for (size_t i = parameters_.size(); i-- > 0;) {
    Parameter& parameter = parameters_[i];
    std::vector<int64_t>& of_rank = owned[parameter.ranks];
    of_rank.resize(static_cast<size_t>(parameter.ranks->size()), 0);
    const auto least = std::min_element(of_rank.begin(), of_rank.end());
    parameter.owner = least - of_rank.begin();
    *least += parameter.weight.numel();
    Bucket& bucket = open[parameter.ranks];
    bucket.ranks = parameter.ranks;
    bucket.parameters.push_back(i);
    bucket.bytes += parameter.weight.numel() * static_cast<int64_t>(sizeof(float));
    if (bucket.bytes >= bucket_bytes_) {
      close(bucket);
      bucket = {};
    }
  }
  if (ranks_ != replicas_) close(open[replicas_.get()]);
  close(open[ranks_.get()]);  // the embedding is the last
}

void GradientSums::sort_by_owner(Bucket& bucket) const {
  const auto owner = [&](size_t i) { return parameters_[i].owner; };
  std::stable_sort(bucket.parameters.begin(), bucket.parameters.end(),
                   [&](size_t a, size_t b) { return owner(a) < owner(b); });
  bucket.sizes.assign(static_cast<size_t>(bucket.ranks->size()), 0);
  for (const size_t i : bucket.parameters) {
    bucket.sizes[static_cast<size_t>(owner(i))] += parameters_[i].weight.numel() + 1;  // and whether there is one
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
  if (ranks_->alone() || !sharded_) return true;
  const auto found = std::find_if(parameters_.begin(), parameters_.end(),
                                  [&](const Parameter& parameter) { return parameter.name == name; });
  return found != parameters_.end() && found->owner == found->ranks->rank();
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
    parts.push_back(gradient.defined() ? gradient.reshape({-1}) : torch::zeros({weight.numel()}, float_options()));
    parts.push_back(torch::full({1}, gradient.defined() ? 1 : 0, float_options()));
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

void GradientSums::send(Bucket& bucket) {
  if (bucket.ranks->alone()) return;  // experts that no other rank has
  const int64_t own = bucket.sizes[static_cast<size_t>(bucket.ranks->rank())], ranks = bucket.ranks->size();
  const std::vector<int64_t> from_each(static_cast<size_t>(ranks), own);
  const Tensor parts = bucket.ranks->exchange(packed(bucket), bucket.sizes, from_each);
  const Tensor sum = pairwise_sum(parts.view({ranks, own}).unbind(0));
  if (sharded_) {
    for (const size_t i : bucket.parameters) parameters_[i].weight.mutable_grad().reset();
    return unpack(bucket, sum, bucket.ranks->rank(), 0);
  }
  const Tensor all = from_all(*bucket.ranks, sum, bucket.sizes);
  int64_t begin = 0;
  for (int64_t owner = 0; owner < ranks; begin += bucket.sizes[static_cast<size_t>(owner++)]) {
    unpack(bucket, all, owner, begin);
  }
}

// Of a gradient that several ranks have, one contributes.
double GradientSums::clip_norm(double limit) {
  const torch::NoGradGuard no_grad;
  const bool parts = sharded_ || spread_;  // no rank has all gradients
  std::vector<Tensor> norms(places_, torch::zeros({}, float_options())), gradients;
  for (const Parameter& parameter : parameters_) {
    const Tensor& gradient = parameter.weight.grad();
    if (!gradient.defined()) continue;
    gradients.push_back(gradient);
    if (!parts || parameter.ranks->rank() == (sharded_ ? parameter.owner : 0)) {
      norms[parameter.place] = gradient.norm();
    }
  }
  Tensor all = torch::stack(norms);
  if (parts) all = ranks_->sum(all);
  const Tensor norm = all.norm();
  const Tensor factor = (limit / (norm + 1e-6)).clamp_max(1);
  for (Tensor& gradient : gradients) gradient.mul_(factor);
  return norm.item<double>();
}

torch::TensorOptions GradientSums::float_options() const {
  return torch::TensorOptions(torch::kFloat).device(parameters_.front().computed.device());
}

void GradientSums::share_weights() {
  share([](const Parameter& parameter) { return parameter.computed; });
}

bool GradientSums::dropped(const Parameter& parameter) const {
  return sharded_ && parameter.owner != parameter.ranks->rank() &&
         parameter.computed.scalar_type() != parameter.weight.scalar_type();
}

void GradientSums::drop_weights() {
  for (const Parameter& parameter : parameters_) {
    if (dropped(parameter)) resize_memory(parameter.weight, 0);
  }
}

void GradientSums::gather_weights() {
  bool any = false;
  for (const Parameter& parameter : parameters_) {
    if (!dropped(parameter)) continue;
    resize_memory(parameter.weight, parameter.weight.numel() * static_cast<int64_t>(parameter.weight.element_size()));
    any = true;
  }
  if (any) share([](const Parameter& parameter) { return parameter.weight; });
}

// Replaces a tensor of every parameter by that of its owner. They are sent as bytes, because dtypes differ.
void GradientSums::share(TensorOf* tensor_of) {
  if (ranks_->alone() || !sharded_) return;
  const torch::NoGradGuard no_grad;
  for (const Bucket& bucket : buckets_) {
    std::vector<Tensor> own{torch::empty({0}, float_options().dtype(torch::kByte))};
    std::vector<int64_t> sizes(static_cast<size_t>(bucket.ranks->size()), 0);
    for (const size_t i : bucket.parameters) {
      const Tensor tensor = tensor_of(parameters_[i]);
      sizes[static_cast<size_t>(parameters_[i].owner)] += static_cast<int64_t>(tensor.nbytes());
      if (parameters_[i].owner == bucket.ranks->rank()) own.push_back(tensor.reshape({-1}).view(torch::kByte));
    }
    const Tensor all = from_all(*bucket.ranks, torch::cat(own), sizes);
    int64_t begin = 0;
    for (const size_t i : bucket.parameters) {
      Tensor tensor = tensor_of(parameters_[i]);
      const Tensor bytes = all.narrow(0, begin, static_cast<int64_t>(tensor.nbytes())).clone();  // aligned
      begin += bytes.numel();
      if (parameters_[i].owner != bucket.ranks->rank()) tensor.copy_(bytes.view(tensor.scalar_type()).view_as(tensor));
    }
  }
}

}  // namespace klab
