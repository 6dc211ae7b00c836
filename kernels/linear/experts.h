// SPDX-License-Identifier: Apache-2.0
// A mixture of SwiGLU experts, for prefill and decode.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// One expert: x -> down (silu(gate x) * (up x)). Each matrix may be float32, bfloat16, float16 or int8.
struct ExpertWeights {
  at::Tensor gate, up, down;                          ///< [M, D], [M, D], [D, M]
  at::Tensor gate_scale{}, up_scale{}, down_scale{};  ///< [M], [M], [D] float32, for int8 weights only (see linear.h)
};

/// All experts of a layer, checked once, so that unused experts cost nothing in a call. Holds the tensors without
/// reading their data, which may be memory-mapped. If a weight's storage is replaced, build a new table.
class ExpertTable {
 public:
  /// `shared` is the shared expert: all tokens use it, with weight 1; its M may differ. Default: no shared expert.
  /// Throws c10::ValueError that names the weight, as in "experts[3].down".
  KLAB_API explicit ExpertTable(std::vector<ExpertWeights> experts, ExpertWeights shared = {});

  int64_t count() const { return static_cast<int64_t>(experts_.size()); }
  int64_t width() const { return width_; }  ///< D
  const ExpertWeights& expert(int64_t e) const { return experts_[static_cast<size_t>(e)]; }
  const ExpertWeights* shared() const { return shared_.gate.defined() ? &shared_ : nullptr; }

  /// Internal: the weights in the form of the CPU kernel.
  struct ForCpu;
  const ForCpu& for_cpu() const { return *for_cpu_; }

 private:
  std::vector<ExpertWeights> experts_;
  ExpertWeights shared_;
  int64_t width_ = 0;
  std::shared_ptr<const ForCpu> for_cpu_;
};

struct ExpertsInputs {
  at::Tensor x;              ///< [n, D]
  at::Tensor chosen;         ///< [n, k] int64, indices of experts, below table->count()
  at::Tensor weights;        ///< [n, k] float32, or x's dtype
  const ExpertTable* table;  ///< not null
};

/// y [n, D] in x's dtype: sum over j of weights[t, j] expert_chosen[t, j](x_t), plus the shared expert's output.
///
/// `cpu` makes two parallel passes: gate and up, then down. The tokens of an expert share one read of its weights,
/// weights of unused experts are not read, and everything between x and the single rounding of y is float32. The bits
/// of y_t depend only on the token's own row, experts and weights. `composed` uses library matrix products, a few per
/// expert, rounds to x's dtype between them, and is faster for many tokens. `reference` is the definition, token by
/// token, accumulated in float32, or float64 for x in float64; only this one has gradients. `automatic` is `reference`
/// if a gradient is needed, else `cpu` for few tokens if it can run, else `composed`.
///
/// Throws c10::ValueError that names the argument, c10::NotImplementedError for an implementation that cannot run on
/// these tensors.
KLAB_API at::Tensor experts(const ExpertsInputs& inputs, Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> experts_implementations();

}  // namespace klab::kernels
