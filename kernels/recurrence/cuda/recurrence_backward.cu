// SPDX-License-Identifier: Apache-2.0
// The backward pass: recomputes the state before each chunk, then computes the gradient of the state after each chunk
// in reverse order, then the gradients of the inputs.
#include "kernels/recurrence/cuda/recurrence_backward.cuh"

#include "kernels/recurrence/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {
namespace {

// Sums rows [chunk slots, HV, width] over the chunks of each sequence, in order, to [N, HV, width].
__global__ void sum_chunks_kernel(const Sequences sequences, const float* rows, int64_t HV, int64_t width,
                                  float* sums) {
  const int64_t sequence = blockIdx.x / HV, head = blockIdx.x % HV;
  const SequenceSpan span = span_of(sequences, sequence);
  const int64_t first = first_chunk_slot(sequences, sequence, span.start);
  for (int64_t n = threadIdx.x; n < width; n += blockDim.x) {
    float sum = 0.0f;
    for (int64_t chunk = 0; chunk * kChunk < span.length; ++chunk)
      sum += rows[((first + chunk) * HV + head) * width + n];
    sums[(sequence * HV + head) * width + n] = sum;
  }
}

void sum_chunks(const Problem& p, const float* rows, int64_t width, float* sums, Stream stream) {
  if (sums == nullptr) return;
  launch(sum_chunks_kernel, dim3(static_cast<unsigned>(p.sequences.count * p.HV)), 128, 0, stream, p.sequences, rows,
         p.HV, width, sums);
}

int64_t padded_key(const Problem& p) { return p.K <= 64 ? 64 : p.K <= 128 ? 128 : 256; }
int64_t per_head(const Problem& p) { return p.decay == Decay::channel ? p.K : 1; }

struct Workspace {
  size_t states, A_log, dt_bias, forward;  // bytes of each part
  explicit Workspace(const Problem& p) {
    const auto rows = static_cast<size_t>(chunk_slots(p.sequences) * p.HV);
    const size_t element = p.v.dtype == Dtype::float32 ? 4 : 2;
    states = aligned(rows * static_cast<size_t>(slices_of(p.V) * kSlice * padded_key(p)) * element);
    A_log = aligned(rows * sizeof(float));
    dt_bias = aligned(rows * static_cast<size_t>(per_head(p)) * sizeof(float));
    forward = recurrence_forward_workspace(p);
  }
  size_t total() const { return 2 * states + A_log + dt_bias + forward; }
};

}  // namespace

size_t recurrence_backward_workspace(const Problem& p) { return Workspace(p).total(); }

void recurrence_backward(const Problem& p, const Rows& d_o, const float* d_final_state, const RecurrenceGradients& out,
                         void* workspace, void* stream_of_caller) {
  const auto stream = static_cast<Stream>(stream_of_caller);
  const Workspace sizes(p);
  unsigned char* const states = static_cast<unsigned char*>(workspace);
  unsigned char* const d_states = states + sizes.states;
  float* const A_log = reinterpret_cast<float*>(d_states + sizes.states);
  float* const dt_bias = reinterpret_cast<float*>(d_states + sizes.states + sizes.A_log);
  run_forward(p, {}, nullptr, states, d_states + sizes.states + sizes.A_log + sizes.dt_bias, stream);

  ReverseTask reverse{};
  reverse.p = p;
  reverse.parts = {1, p.sequences.tokens};
  reverse.slices = static_cast<int>(slices_of(p.V));
  reverse.consumers = choose_consumers(p, reverse.parts, reverse.slices);
  reverse.d_o = d_o;
  reverse.d_final_state = d_final_state;
  reverse.d_initial_state = out.initial_state;
  reverse.chunk_gradients = d_states;

  GradientTask gradient{};
  gradient.p = p;
  gradient.d_o = d_o;
  gradient.states = states;
  gradient.d_states = d_states;
  gradient.state_rows = slices_of(p.V) * kSlice;
  gradient.out = out;
  gradient.d_A_log = out.A_log == nullptr ? nullptr : A_log;
  gradient.d_dt_bias = out.dt_bias == nullptr ? nullptr : dt_bias;

  switch (p.v.dtype) {
    case Dtype::bfloat16:
      launch_reverse_bfloat16(reverse, stream);
      launch_gradient_bfloat16(gradient, stream);
      break;
    case Dtype::float16:
      launch_reverse_float16(reverse, stream);
      launch_gradient_float16(gradient, stream);
      break;
    case Dtype::float32:
      launch_reverse_float32(reverse, stream);
      launch_gradient_float32(gradient, stream);
      break;
  }
  sum_chunks(p, A_log, 1, out.A_log, stream);
  sum_chunks(p, dt_bias, per_head(p), out.dt_bias, stream);
}

}  // namespace klab::kernels::cuda
