// SPDX-License-Identifier: Apache-2.0
// The launch configuration of the forward pass: chosen for the problem and the device, or requested by environment
// variables, so that checks and benchmarks can run every variant.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/recurrence/cuda/chunk_layout.h"
#include "kernels/recurrence/cuda/recurrence.h"

namespace klab::kernels::cuda {

constexpr int64_t slices_of(int64_t width) { return (width + kSlice - 1) / kSlice; }

/// A sequence may be split into parts that run in parallel, once the state before each part is known.
struct Parts {
  int count = 1;       ///< per sequence
  int64_t tokens = 0;  ///< per part, a multiple of kChunk; all tokens if count is 1
};

/// `count` parts of a sequence, each of whole chunks.
constexpr Parts split_into_parts(int64_t tokens, int64_t count) {
  if (count == 1) return {1, tokens};
  const int64_t part = (tokens + count - 1) / count;
  return {static_cast<int>(count), (part + kChunk - 1) / kChunk * kChunk};
}
/// Whether no part is empty.
constexpr bool fills_parts(const Parts& parts, int64_t tokens) { return (parts.count - 1) * parts.tokens < tokens; }

/// "hopper, 4 consumers, 1 part", as recurrence_last_plan() says it.
inline std::string plan_text(bool hopper, int consumers, int parts) {
  return std::string(hopper ? "hopper, " : "portable, ") + std::to_string(consumers) +
         (consumers == 1 ? " consumer, " : " consumers, ") + std::to_string(parts) + (parts == 1 ? " part" : " parts");
}

/// KLAB_CUDA_TIER, KLAB_CUDA_CONSUMERS, KLAB_CUDA_PARTS and KLAB_CUDA_WINDOW; -1 for those that are not set.
struct PlanRequest {
  int hopper = -1;     ///< 0: mma.sync ("portable"), 1: wgmma ("hopper")
  int consumers = -1;  ///< consumer warps per block: 1, 2 or 4
  int parts = -1;      ///< parts per sequence
  int window = -1;     ///< tokens of a window of the backward pass
};

/// Reads the request. Throws c10::ValueError for a value that is none of the above.
PlanRequest plan_request();

/// The parts of a forward pass over a window. Throws c10::ValueError for a requested number with which a part would
/// have no chunk.
Parts choose_parts(const Problem& problem, const Window& window);

/// The tokens of a window of the backward pass: all, or as many as need no more than 2 GiB for the states of the chunks
/// and their gradients, of `bytes_per_slot` per chunk slot. A multiple of kChunk.
int64_t choose_window(const Problem& problem, size_t bytes_per_slot);

/// Consumer warps per block of the portable kernels.
int choose_consumers(const Problem& problem, const Parts& parts, int64_t slices);

struct ForwardPlan {
  bool hopper;
  int consumers;
};

/// The tier and the consumer warps of a forward pass. Throws c10::NotImplementedError if the Hopper tier is requested
/// and has no kernel for the problem.
ForwardPlan choose_forward(const Problem& problem, const Parts& parts, int64_t slices);

/// Keeps what was launched, for recurrence_last_plan().
void record_plan(bool hopper, int consumers, int parts);
void record_step_plan();

}  // namespace klab::kernels::cuda
