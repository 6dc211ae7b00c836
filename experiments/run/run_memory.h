// SPDX-License-Identifier: Apache-2.0
// Memory that a run will need, predicted before it starts.
#pragma once

#include <torch/types.h>

#include "core/train/step_memory.h"
#include "experiments/run/run_config.h"

namespace klab {

/// Bytes of memory of a run on the CPU.
struct RunMemory {
  StepShape shape;      ///< of the phase or task variant whose steps need the most
  StepMemory step;      ///< of such a step
  int64_t data = 0;     ///< validation and test data, and batches prepared in advance
  int64_t cache = 0;    ///< freed blocks that are kept (core/model/block_cache.h)
  int64_t program = 0;  ///< the program and its libraries: what this process has, and what training adds
  int64_t peak() const { return step.peak + data + cache + program; }
};

/// Predicts the memory of a run, or of one of its ranks, see predict_step_memory(). Throws UsageError if a layer is too
/// large to be measured in this machine's memory.
RunMemory predict_memory(const RunConfig& config, const RankLayout& layout = {});

/// Throws UsageError with the number of bytes if the run does not fit in the memory of the device: first if weights,
/// gradients and the optimiser's state alone do not, then by predict_memory(). `here`: ranks that share a CPU's memory.
void require_memory(const RunConfig& config, const torch::Device& device, const RankLayout& layout = {},
                    int64_t here = 1);

}  // namespace klab
