// SPDX-License-Identifier: Apache-2.0
#include "core/model/token_mixer.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/model/layers.h"

namespace klab {
namespace {

int64_t cache_row_bytes(const State& state) {
  int64_t sum = 0;
  for (const auto& [name, cache] : state.caches) {
    int64_t numbers = 1;
    for (int64_t d = 2; d < cache.dim(); ++d) numbers *= cache.size(d);
    sum += numbers * static_cast<int64_t>(cache.element_size());
  }
  for (const State& part : state.parts) sum += cache_row_bytes(part);
  return sum;
}

void set_lengths(State& state, int64_t sequences) {
  state.lengths.assign(static_cast<size_t>(sequences), 0);
  for (State& part : state.parts) set_lengths(part, sequences);
}

}  // namespace

torch::Tensor TokenMixer::forward(const torch::Tensor& x, const Sequences& sequences, State* state,
                                  torch::Tensor* values) {
  values_ = values;
  if (state == nullptr) return mix(x, sequences, nullptr);
  const std::vector<int64_t> added = sequences.lengths(x.size(0), x.size(1));
  if (state->lengths.size() != added.size()) {
    refuse("the state has {} sequence(s), but the batch {}", state->lengths.size(), added.size());
  }
  const torch::Tensor y = mix(x, sequences, state);
  for (size_t i = 0; i < added.size(); ++i) state->lengths[i] += added[i];
  return y;
}

void TokenMixer::add_value_residual(bool first) {
  if (!has_values()) refuse("model.value_residual: this mixer has no values per token that layers could share");
  if (!first) value_share_ = register_parameter("value_share", new_parameter({2}, 0.5));
}

torch::Tensor TokenMixer::with_first_values(const torch::Tensor& v) const {
  if (values_ == nullptr) return v;
  if (!values_->defined()) return *values_ = v;
  if (!value_share_.defined()) return v;
  if (values_->sizes() != v.sizes()) {
    refuse("model.value_residual: all layers must have values of one shape, but they have {} and {} per token",
           fmt::join(values_->sizes().slice(2), " x "), fmt::join(v.sizes().slice(2), " x "));
  }
  return value_share_[0] * v + value_share_[1] * *values_;
}

State TokenMixer::initial_state(int64_t sequences, const torch::Device& device) const {
  State state;
  add_state(state, sequences, device);
  set_lengths(state, sequences);
  return state;
}

int64_t TokenMixer::state_bytes(int64_t tokens) const {
  const State state = initial_state(1, torch::kMeta);
  return state.bytes() + cache_capacity(tokens) * cache_row_bytes(state);
}

int64_t TokenMixer::cache_bytes_per_token() const { return cache_row_bytes(initial_state(1, torch::kMeta)); }

}  // namespace klab
