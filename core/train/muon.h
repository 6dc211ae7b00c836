// SPDX-License-Identifier: Apache-2.0
// Muon for the matrices of hidden layers, AdamW for everything else.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/train/adamw.h"
#include "core/train/parameter_role.h"

namespace klab {

struct MuonOptions {
  double momentum = 0.95, weight_decay = 0.1;
};

/// Muon as in Liu et al. 2025, "Muon is Scalable for LLM Training" (Moonlight), on every parameter of role `matrix`, W
/// [rows, cols] with gradient G:
///     M <- momentum M + G      U = G + momentum M      O = orthogonalised(U), see newton_schulz.h
///     W <- W (1 - lr weight_decay) - lr 0.2 sqrt(max(rows, cols)) O
/// so that an update has about the root mean square of AdamW's, 0.2 lr, and the learning rate and the weight decay of
/// AdamW can be kept. AdamW updates the embedding, the head, convolutions and vectors. The state is `muon.momentum.*`
/// and that of AdamW. Matrices of one shape (or its transpose) are orthogonalised together.
class Muon : public Optimizer {
 public:
  /// `roles` of all `parameters`, by name.
  Muon(const std::vector<TrainedParameter>& parameters, const std::map<std::string, ParameterRole>& roles,
       const MuonOptions& options, const AdamWOptions& others);

  std::map<std::string, torch::Tensor> state() const override;
  int64_t temporary_bytes() const override;

 protected:
  void update(double lr) override;

 private:
  struct Matrix {
    TrainedParameter parameter;
    torch::Tensor momentum;
  };
  using Batch = std::vector<const Matrix*>;
  void update_batch(const Batch& batch, double lr) const;

  MuonOptions options_;
  std::map<std::pair<int64_t, int64_t>, std::vector<Matrix>> matrices_;  // by their smaller and larger side
  AdamW others_;
};

}  // namespace klab
