// Diagonal plus low rank, in its general form.
#pragma once

#include "mixers/gates.h"
#include "mixers/linear_mixer.h"

namespace klab {

/// S = (Diag(e^g) - beta a b^T) S + k v^T with both vectors free (table 6 of arXiv 2510.26692): a = l2norm(W_a x) is
/// written, b = l2norm(W_b x) reads the undecayed state. Both start as the same matrix, so that training begins from a
/// step that only forgets; unlike KDA, nothing keeps a step from growing a state later. Keys and queries of length one.
class Dplr : public LinearMixer {
 public:
  using Options = ChannelDecayOptions;

  Dplr(const MixerShape& shape, const Options& options);
  void initialise(const at::Generator& generator) override;

 protected:
  void fill_inputs(kernels::RecurrenceInputs& in, const torch::Tensor& x, const Sequences& sequences,
                   const State* state) const override;

 private:
  Beta beta_;
  ChannelDecay decay_;
  Linear write_proj_, read_proj_;
};

}  // namespace klab
