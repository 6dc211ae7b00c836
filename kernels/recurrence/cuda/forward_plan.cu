// SPDX-License-Identifier: Apache-2.0
#include "kernels/recurrence/cuda/forward_plan.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

#include "kernels/common/cuda/platform.cuh"
#include "kernels/recurrence/cuda/gradient_layout.h"

namespace klab::kernels::cuda {
namespace {

constexpr int64_t kFewestTokensOfPart = 512;
constexpr int kMostParts = 4096;
constexpr size_t kMostStateBytes = size_t{1} << 31;  // in the workspace of the backward pass
constexpr int64_t kFewestTokensOfWindow = 1024;

// Formatted only when asked for: a launch records three numbers.
struct LastPlan {
  static constexpr int kNone = 0, kStep = -1;  // instead of a number of consumers
  bool hopper = false;
  int consumers = kNone, parts = 0;
};
thread_local LastPlan last_plan;

// Consumer warps that run concurrently at full speed: one per SM sub-partition.
int64_t capacity() { return int64_t{4} * multiprocessors(); }

int requested_number(const char* name, int least, int most) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return -1;
  char* end = nullptr;
  const int64_t value = std::strtoll(text, &end, 10);
  TORCH_CHECK_VALUE(*end == '\0' && value >= least && value <= most, name, "=", text, " must be an integer between ",
                    least, " and ", most);
  return static_cast<int>(value);
}

int requested_tier() {
  const char* tier = std::getenv("KLAB_CUDA_TIER");
  if (tier == nullptr || *tier == '\0') return -1;
  if (std::strcmp(tier, "portable") == 0) return 0;
  TORCH_CHECK_VALUE(std::strcmp(tier, "hopper") == 0, "KLAB_CUDA_TIER=", tier, " is neither 'portable' nor 'hopper'");
  return 1;
}

}  // namespace

PlanRequest plan_request() {
  const PlanRequest request{requested_tier(), requested_number("KLAB_CUDA_CONSUMERS", 1, kMostConsumers),
                            requested_number("KLAB_CUDA_PARTS", 1, kMostParts),
                            requested_number("KLAB_CUDA_WINDOW", kChunk, 1 << 30)};
  TORCH_CHECK_VALUE(request.window == -1 || request.window % kChunk == 0, "KLAB_CUDA_WINDOW=", request.window,
                    " must be a multiple of ", kChunk);
  TORCH_CHECK_VALUE(request.consumers != 3, "KLAB_CUDA_CONSUMERS=3 must be 1, 2 or 4");
  return request;
}

// Splitting into parts costs three times the work, and more for the first parts: it pays only if there is room for more
// than four parts.
Parts choose_parts(const Problem& p, const Window& window) {
  const int64_t T = std::min(p.sequences.tokens - window.first, window.tokens);
  if (const int requested = plan_request().parts; requested > 0) {
    const Parts parts = split_into_parts(T, requested);
    TORCH_CHECK_VALUE(fills_parts(parts, T), "KLAB_CUDA_PARTS=", requested, " is too many for ", T,
                      " tokens in chunks of ", kChunk);
    return parts;
  }
  const int64_t warps = p.sequences.count * p.HV * slices_of(p.V);
  const int64_t most = T / kFewestTokensOfPart / (p.sequences.offsets == nullptr ? 1 : p.sequences.count);
  if (warps * 5 > capacity() || most < 5) return {1, T};
  return split_into_parts(T, std::min(most, capacity() / warps));
}

// Windows of packed sequences have slots for the whole window of each sequence, which many short ones would not fill.
int64_t choose_window(const Problem& p, size_t bytes_per_slot) {
  const int64_t T = p.sequences.tokens, N = p.sequences.count;
  const auto rounded = [](int64_t tokens) { return (tokens + kChunk - 1) / kChunk * kChunk; };
  if (const int requested = plan_request().window; requested > 0) return requested < T ? requested : T;
  const auto most = static_cast<int64_t>(kMostStateBytes / bytes_per_slot);
  if (chunk_slots(p.sequences) <= most) return T;
  const int64_t tokens = std::max(rounded(most / N * kChunk), kFewestTokensOfWindow);
  return tokens < T && N * (tokens / kChunk) < chunk_slots(p.sequences) ? tokens : T;
}

// As many consumer warps per block as still fill the device: they share the work of the block's producers.
int choose_consumers(const Problem& p, const Parts& parts, int64_t slices) {
  if (const int requested = plan_request().consumers; requested > 0) return requested;
  int consumers = kMostConsumers;
  while (consumers > 1 && p.sequences.count * parts.count * p.HV * ((slices + consumers - 1) / consumers) * 4 <
                              3 * static_cast<int64_t>(multiprocessors())) {
    consumers /= 2;
  }
  return consumers;
}

namespace {

// The Hopper tier has only kernels for whole warpgroups.
bool has_hopper_kernel(const Problem& p, int consumers) {
  return p.v.dtype != Dtype::float32 && p.K <= 128 && consumers == kMostConsumers;
}

// Measured on an H200: faster by 6 to 8 % with 64 heads of 128, and by a third with few heads, but no faster for K
// = 64. Not measured for DPLR.
bool is_faster_on_hopper(const Problem& p) {
  using Layout = ChunkLayout<2, 1, 128, TileOrder::core_matrices>;
  return p.K > 64 && p.update != Update::dplr && has_warpgroups() && Layout::shared(1) <= shared_memory_limit();
}

}  // namespace

ForwardPlan choose_forward(const Problem& p, const Parts& parts, int64_t slices) {
  const PlanRequest request = plan_request();
  const int together = request.consumers > 0 ? request.consumers : kMostConsumers;
  if (request.hopper == 1) {
    TORCH_CHECK_VALUE(has_warpgroups(), "KLAB_CUDA_TIER=hopper needs a device of compute capability 9.0");
    TORCH_CHECK_NOT_IMPLEMENTED(has_hopper_kernel(p, together),
                                "KLAB_CUDA_TIER=hopper has kernels for 16-bit inputs, K <= 128 and ", kMostConsumers,
                                " consumer warps; this call has ", p.v.dtype == Dtype::float32 ? "float32" : "16-bit",
                                " inputs, K = ", p.K, " and ", together, " consumer warps");
    return {true, together};
  }
  if (request.hopper == -1 && has_hopper_kernel(p, together) && is_faster_on_hopper(p)) return {true, together};
  return {false, choose_consumers(p, parts, slices)};
}

void record_plan(bool hopper, int consumers, int parts) { last_plan = {hopper, consumers, parts}; }

void record_step_plan() { last_plan = {.consumers = LastPlan::kStep}; }

namespace {

template <size_t kElement, int kColumnKinds>
size_t shared_memory_of(int64_t K, bool with_backward) {
  const auto of = [&]<int kWidth>() {
    const size_t walk = ChunkLayout<kElement, kColumnKinds, kWidth>::shared(1);
    return with_backward ? std::max(walk, GradientLayout<kElement, kColumnKinds, kWidth>::kTotal) : walk;
  };
  if (K <= 64) return of.template operator()<64>();
  if (K <= 128) return of.template operator()<128>();
  if constexpr (kElement == sizeof(float)) {
    return 0;  // token by token
  } else {
    return of.template operator()<256>();
  }
}

}  // namespace

size_t recurrence_shared_memory(Dtype dtype, Update update, int64_t K, bool with_backward) {
  const bool dplr = update == Update::dplr;
  if (dtype == Dtype::float32)
    return dplr ? shared_memory_of<4, 2>(K, with_backward) : shared_memory_of<4, 1>(K, with_backward);
  return dplr ? shared_memory_of<2, 2>(K, with_backward) : shared_memory_of<2, 1>(K, with_backward);
}

size_t recurrence_shared_memory_limit() { return shared_memory_limit(); }

const char* recurrence_last_plan() {
  if (last_plan.consumers == LastPlan::kNone) return "none";
  if (last_plan.consumers == LastPlan::kStep) return "step";
  thread_local std::string text;
  text = plan_text(last_plan.hopper, last_plan.consumers, last_plan.parts);
  return text.c_str();
}

}  // namespace klab::kernels::cuda
