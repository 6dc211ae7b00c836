// SPDX-License-Identifier: Apache-2.0
// Log-linear attention: one memory per level of a Fenwick tree.
#pragma once

#include "kernels/recurrence/recurrence.h"
#include "kernels/recurrence/recurrence_cost.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// Log-linear attention (arXiv 2506.04761) over a recurrence. Token t sees the past in blocks of tokens, those of the
/// binary digits of t: one block of 2^(l-1) tokens for each level l whose digit is 1, the nearest blocks the smallest,
/// and level 0 for t itself. Each block has a memory of its own, written by its tokens alone and carried on by the
/// transitions of all later ones, and
///     o_t = sum over levels l of scales[t, l] S_l^T q_t.
/// The last level also has everything older.
///
/// `in` has one write per token and neither initial state nor cu_seqlens; scales [B, T, HV, levels]. Returns
/// o [B, T, HV, V]. The state's tensor `memory` is [N, levels - 1, HV, K, V].
torch::Tensor log_linear_recurrence(const kernels::RecurrenceInputs& in, const torch::Tensor& scales,
                                    const Sequences& sequences, State* state);

/// Bytes per token of what a part of a sequence takes from earlier ranks: keys, values and gates.
int64_t log_linear_row_bytes(const MemoryShape& memory, torch::ScalarType dtype);

/// FLOPs of one head over `tokens` tokens, and of one token after `tokens`.
double log_linear_flops(const MemoryShape& memory, int64_t tokens);
double log_linear_step_flops(const MemoryShape& memory, int64_t tokens);

/// A linear mixer with log-linear attention on its recurrence. The scales are softplus(L * (W x)), L [HV, levels].
template <class Base>
class LogLinear : public Base {
 public:
  struct Options : Base::Options {
    int64_t levels = 15;
    void visit(Fields& fields) override {
      Base::Options::visit(fields);
      fields("levels", levels, {2, 32},
             "levels of the tree, each with a memory but the first; n tell apart 2^(n-1) tokens");
    }
  };

  LogLinear(const MixerShape& shape, const Options& options)
      : Base(shape, options),
        levels_(options.levels),
        level_proj_(this->register_module("level_proj", Linear(shape.width, this->memory_shape().heads * levels_))),
        L_(this->register_parameter("L", new_wide_parameter({this->memory_shape().heads, levels_}, 1))) {}

  void initialise(const at::Generator& generator) override {
    Base::initialise(generator);
    L_.fill_(1);
  }

  double flops(int64_t tokens) const override {
    const MemoryShape memory = this->memory_shape();
    const double plain = kernels::recurrence_flops(memory.update, tokens, memory.key_dim, memory.value_dim);
    return Base::flops(tokens) + static_cast<double>(memory.heads) * (log_linear_flops(memory, tokens) - plain);
  }

  double decode_flops(int64_t tokens) const override {
    const MemoryShape memory = this->memory_shape();
    const double plain = kernels::recurrence_step_flops(memory.update, memory.key_dim, memory.value_dim);
    return Base::decode_flops(tokens) +
           static_cast<double>(memory.heads) * (log_linear_step_flops(memory, tokens) - plain);
  }

  int64_t row_bytes_of_part() const override {
    return log_linear_row_bytes(this->memory_shape(), level_proj_->input_dtype());
  }

 protected:
  torch::Tensor recur(const kernels::RecurrenceInputs& in, const torch::Tensor& x, const Sequences& sequences,
                      State* state) const override {
    const torch::Tensor raw = level_proj_->forward(x).unflatten(-1, {in.v.size(2), levels_});
    return log_linear_recurrence(in, torch::softplus(L_ * raw), sequences, state);
  }

  void add_state(State& state, int64_t sequences, const torch::Device& device) const override {
    Base::add_state(state, sequences, device);
    torch::Tensor& memory = state.tensors.at("memory");
    memory = memory.unsqueeze(1).repeat({1, levels_ - 1, 1, 1, 1});
  }

 private:
  int64_t levels_;
  Linear level_proj_;
  torch::Tensor L_;  // [HV, levels]
};

}  // namespace klab
