// SPDX-License-Identifier: Apache-2.0
#include "core/model/headwise.h"

#include <torch/nn/module.h>

namespace klab {

HeadwiseMixer::HeadwiseMixer(std::vector<std::shared_ptr<TokenMixer>> kinds) : kinds_(std::move(kinds)) {
  for (size_t i = 0; i < kinds_.size(); ++i) register_module("heads" + std::to_string(i), kinds_[i]);
}

torch::Tensor HeadwiseMixer::mix(const torch::Tensor& x, const Sequences& sequences, State* state) {
  torch::Tensor y;
  for (size_t i = 0; i < kinds_.size(); ++i) {
    const torch::Tensor part = kinds_[i]->forward(x, sequences, state == nullptr ? nullptr : &state->parts[i]);
    y = y.defined() ? y + part : part;
  }
  return y;
}

void HeadwiseMixer::add_state(State& state, int64_t sequences, const torch::Device& device) const {
  for (const auto& kind : kinds_) state.parts.push_back(kind->initial_state(sequences, device));
}

double HeadwiseMixer::flops(int64_t tokens) const {
  double sum = 0;
  for (const auto& kind : kinds_) sum += kind->flops(tokens);
  return sum;
}

double HeadwiseMixer::decode_flops(int64_t tokens) const {
  double sum = 0;
  for (const auto& kind : kinds_) sum += kind->decode_flops(tokens);
  return sum;
}

int64_t HeadwiseMixer::row_bytes_of_part() const {
  int64_t sum = 0;
  for (const auto& kind : kinds_) sum += kind->row_bytes_of_part();
  return sum;
}

void HeadwiseMixer::initialise(const at::Generator& generator) {
  for (const auto& kind : kinds_) kind->initialise(generator);
}

}  // namespace klab
