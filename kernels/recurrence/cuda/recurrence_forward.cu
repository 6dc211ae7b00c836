// SPDX-License-Identifier: Apache-2.0
// Launch configuration of the forward pass, and the combination of the parts of a long sequence.
#include "kernels/recurrence/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {
namespace {

constexpr int kColumns = 16;  // columns of V per block of join_kernel()

// Computes the state before each part by applying the affine map of the preceding part to the state before that part.
__global__ void __launch_bounds__(kMaxHeadDim)
    join_kernel(const float* map, const float* offset, const float* initial_state, int parts, int64_t HV, int K, int V,
                float* entering) {
  const int blocks = (V + kColumns - 1) / kColumns, first = static_cast<int>(blockIdx.x) % blocks * kColumns;
  const int64_t row = static_cast<int64_t>(blockIdx.x) / blocks, sequence = row / HV, head = row % HV;
  const int k = static_cast<int>(threadIdx.x);
  float* state = reinterpret_cast<float*>(shared_memory());  // [K][kColumns]
  float x[kColumns] = {};
  if (initial_state != nullptr && k < K) {
    for (int n = 0; n < kColumns && first + n < V; ++n) x[n] = initial_state[(row * K + k) * V + first + n];
  }
  for (int part = 0; part < parts; ++part) {
    const int64_t at = (sequence * parts + part) * HV + head;
    if (k < K) {
      for (int n = 0; n < kColumns; ++n) {
        if (first + n < V) entering[(at * K + k) * V + first + n] = x[n];
        state[k * kColumns + n] = x[n];
      }
    }
    block_barrier();
    if (k < K) {
#pragma unroll
      for (int n = 0; n < kColumns; ++n) x[n] = first + n < V ? offset[(at * K + k) * V + first + n] : 0.0f;
      for (int j = 0; j < K; ++j) {
        const float m = map[(at * K + j) * K + k];
#pragma unroll
        for (int n = 0; n < kColumns; ++n) x[n] += m * state[j * kColumns + n];
      }
    }
    block_barrier();
  }
}

void launch_forward(ForwardTask& task, Stream stream) {
  task.slices = static_cast<int>(slices_of(task.p.V) + (task.part_map == nullptr ? 0 : slices_of(task.p.K)));
  const ForwardPlan plan = choose_forward(task.p, task.parts, task.slices);
  task.consumers = plan.consumers;
  record_plan(plan.hopper, plan.consumers, task.parts.count);
  if (plan.hopper) return launch_forward_warpgroups(task, stream);
  switch (task.p.v.dtype) {
    case Dtype::bfloat16: launch_forward_bfloat16(task, stream); break;
    case Dtype::float16: launch_forward_float16(task, stream); break;
    case Dtype::float32: launch_forward_float32(task, stream); break;
  }
}

struct PartStates {
  float *map, *offset, *entering;
};

int64_t part_rows(const Problem& p, const Parts& parts) { return p.sequences.count * parts.count * p.HV; }

PartStates part_states(const Problem& p, const Parts& parts, void* workspace) {
  float* map = static_cast<float*>(workspace);
  float* offset = map + part_rows(p, parts) * p.K * p.K;
  return {map, offset, offset + part_rows(p, parts) * p.K * p.V};
}

}  // namespace

size_t forward_workspace(const Problem& p, const Window& window) {
  const Parts parts = choose_parts(p, window);
  if (parts.count == 1) return 0;
  return static_cast<size_t>(part_rows(p, parts) * p.K * (p.K + 2 * p.V)) * sizeof(float);
}

size_t recurrence_forward_workspace(const Problem& p) { return forward_workspace(p, {0, p.sequences.tokens}); }

void run_forward(const Problem& p, const Window& window, const MutableRows& o, float* final_state, void* chunk_states,
                 void* workspace, Stream stream) {
  ForwardTask task{};
  task.p = p;
  task.aligned = alignment_of(p);
  task.window = window;
  task.parts = choose_parts(p, window);
  if (task.parts.count > 1) {
    const PartStates states = part_states(p, task.parts, workspace);
    task.part_map = states.map;
    task.part_offset = states.offset;
    launch_forward(task, stream);
    const int64_t blocks = (p.V + kColumns - 1) / kColumns;
    const int threads = static_cast<int>((p.K + kWarp - 1) / kWarp * kWarp);
    launch(join_kernel, dim3(static_cast<unsigned>(p.sequences.count * p.HV * blocks)), threads,
           static_cast<size_t>(p.K) * kColumns * sizeof(float), stream, states.map, states.offset, p.initial_state,
           task.parts.count, p.HV, static_cast<int>(p.K), static_cast<int>(p.V), states.entering);
    task.part_map = task.part_offset = nullptr;
    task.entering_states = states.entering;
  }
  task.o = o;
  task.paired_o = has_paired_rows(o, p.V);
  task.final_state = final_state;
  task.chunk_states = chunk_states;
  launch_forward(task, stream);
}

void recurrence_forward(const Problem& p, const MutableRows& o, float* final_state, void* workspace, void* stream) {
  if (p.v.dtype == Dtype::float32 && p.K > kWidestFloat32) {
    recurrence_step(p, o, final_state, nullptr, stream);
  } else {
    run_forward(p, {0, p.sequences.tokens}, o, final_state, nullptr, workspace, static_cast<Stream>(stream));
  }
}

}  // namespace klab::kernels::cuda
