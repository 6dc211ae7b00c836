// SPDX-License-Identifier: Apache-2.0
// The runs of a scaling study: compute and loss of every architecture and size, and the laws through them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/csv.h"
#include "experiments/study/scaling.h"
#include "experiments/study/study.h"

namespace klab {

/// What it takes to train a config.
struct TrainingCost {
  int64_t parameters = 0;  ///< activated, without embeddings
  int64_t tokens = 0;
  double flops = 0;  ///< three times those of the forward passes, attention (equations 13 and 14) and head included
};
TrainingCost training_cost(const RunConfig& config);

struct ScalingRun {
  int64_t seed = 0;
  double loss = 0, excess = 0;  ///< on test data: nats per token, and those above the entropy of the source
};

/// The runs of one architecture and size.
struct ScalingSize {
  std::string architecture, size;
  TrainingCost cost;
  std::vector<ScalingRun> runs;  ///< those that finished
  size_t diverged = 0;
};

/// The sizes of a study whose cells are sizes and whose compared values are architectures, by architecture.
std::vector<ScalingSize> scaling_sizes(const std::vector<StudyCell>& cells);

/// A law is fitted to runs of at least so many sizes.
constexpr size_t kFewestSizes = 3;
constexpr double kTeraflop = 1e12;  // the unit of compute in the fits

struct ArchitectureFit {
  std::string architecture;
  ScalingCurve curve;                       ///< compute in TFLOPs; sizes with a finished run
  std::optional<ScalingFit> line;           ///< none with fewer than kFewestSizes
  std::optional<SaturatingLaw> saturating;  ///< none either if the loss does not decrease
};
std::vector<ArchitectureFit> fit_architectures(const std::vector<ScalingSize>& sizes);

/// How many times the compute of `better` the architecture `than` needs for the same loss; or why that is not known.
struct ComputeAdvantage {
  Claim claim;
  std::optional<ScalingComparison> found;
  std::string why_not;
};
ComputeAdvantage compute_advantage(const std::vector<ArchitectureFit>& fits, const Claim& claim);

}  // namespace klab
