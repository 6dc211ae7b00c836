// SPDX-License-Identifier: Apache-2.0
// Head-wise hybrids: the heads of one layer split between mixers.
#pragma once

#include <memory>
#include <vector>

#include "core/model/token_mixer.h"

namespace klab {

/// Several mixers on the same input, each with its share of the heads; the output is their sum. This equals one output
/// projection of the concatenated heads, because that is the sum of the projections of each mixer's heads.
class HeadwiseMixer : public TokenMixer {
 public:
  explicit HeadwiseMixer(std::vector<std::shared_ptr<TokenMixer>> kinds);
  double flops(int64_t tokens) const override;
  double decode_flops(int64_t tokens) const override;
  int64_t row_bytes_of_part() const override;
  void initialise(const at::Generator& generator) override;
  const std::vector<std::shared_ptr<TokenMixer>>& kinds() const { return kinds_; }

 protected:
  torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) override;
  void add_state(State& state, int64_t sequences, const torch::Device& device) const override;

 private:
  std::vector<std::shared_ptr<TokenMixer>> kinds_;
};

}  // namespace klab
