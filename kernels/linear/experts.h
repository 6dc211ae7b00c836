// A mixture of SwiGLU experts, for the prompt and for decoding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/common/export.h"
#include "kernels/common/implementation.h"

namespace klab::kernels {

/// One expert: x -> down (silu(gate x) * (up x)). Its matrices are float32, bfloat16, float16 or int8, each on its own.
struct ExpertWeights {
  at::Tensor gate, up, down;                          ///< [M, D], [M, D], [D, M]
  at::Tensor gate_scale{}, up_scale{}, down_scale{};  ///< [M], [M], [D] float32, of int8 weights alone (see linear.h)
};

/// All experts of a layer, checked once, so that a call costs nothing for those that it does not use. Holds the tensors
/// and reads none of their numbers (they may be mapped files). A weight that gets other storage needs a new table.
class ExpertTable {
 public:
  /// `shared` is the expert that every token goes to, with weight 1; its width may be another. Left out: none.
  /// Throws c10::ValueError that names the weight, as in "experts[3].down".
  KLAB_API explicit ExpertTable(std::vector<ExpertWeights> experts, ExpertWeights shared = {});

  int64_t count() const { return static_cast<int64_t>(experts_.size()); }
  int64_t width() const { return width_; }  ///< D
  const ExpertWeights& expert(int64_t e) const { return experts_[static_cast<size_t>(e)]; }
  const ExpertWeights* shared() const { return shared_.gate.defined() ? &shared_ : nullptr; }

  /// The weights as the CPU kernel reads them: internal.
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
  at::Tensor chosen;         ///< [n, k] int64, below table->count()
  at::Tensor weights;        ///< [n, k] float32, or x's dtype
  const ExpertTable* table;  ///< not null
};

/// y [n, D] in x's dtype: sum over j of weights[t, j] expert_chosen[t, j](x_t), plus the shared expert's.
///
/// `cpu` passes over the weights twice, in parallel; tokens of one expert share one reading of its weights, weights of
/// experts without tokens are not read, everything between x and the one rounding of y is float32. A token's bits
/// depend on its own row, experts and weights alone. `composed` takes products of the libraries, a few for each expert,
/// rounding to x's dtype between them, and is faster for many tokens. `reference` is the definition, token by token,
/// with sums in float32, or float64 for x in float64; it alone has gradients. `automatic` is `reference` where a
/// gradient is needed, else `cpu` for few tokens where it can run, else `composed`.
///
/// Throws c10::ValueError that names the argument, c10::NotImplementedError for an implementation that cannot run on
/// these tensors.
KLAB_API at::Tensor experts(const ExpertsInputs& inputs, Implementation implementation = Implementation::automatic);

/// The implementations that this build has.
KLAB_API std::vector<Implementation> experts_implementations();

}  // namespace klab::kernels
