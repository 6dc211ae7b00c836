// SPDX-License-Identifier: Apache-2.0
// The backward pass: recomputes the state before each chunk, then computes the gradient of the state after each chunk
// in reverse order, then the gradients of the inputs. Long sequences are processed in windows of tokens, from the last
// to the first; a first forward pass then keeps the states between the windows.
#include "kernels/recurrence/cuda/recurrence_backward.cuh"

#include "kernels/recurrence/cuda/recurrence_forward.cuh"

namespace klab::kernels::cuda {
namespace {

// Adds rows [chunk slots, HV, width], summed over the chunks of each sequence in a window, in order, to [N, HV, width].
__global__ void sum_chunks_kernel(const Sequences sequences, const Window window, const float* rows, int64_t HV,
                                  int64_t width, float* sums) {
  const int64_t sequence = blockIdx.x / HV, head = blockIdx.x % HV;
  const SequenceSpan span = inside(span_of(sequences, sequence), window);
  const int64_t first = first_chunk_slot(sequences, window, sequence, span.start);
  const bool last = window.first + window.tokens >= sequences.tokens;  // it is processed first
  for (int64_t n = threadIdx.x; n < width; n += blockDim.x) {
    float& to = sums[(sequence * HV + head) * width + n];
    float sum = last ? 0.0f : to;
    for (int64_t chunk = 0; chunk * kChunk < span.length; ++chunk)
      sum += rows[((first + chunk) * HV + head) * width + n];
    to = sum;
  }
}

void sum_chunks(const Problem& p, const Window& window, const float* rows, int64_t width, float* sums, Stream stream) {
  if (sums == nullptr) return;
  launch(sum_chunks_kernel, dim3(static_cast<unsigned>(p.sequences.count * p.HV)), 128, 0, stream, p.sequences, window,
         rows, p.HV, width, sums);
}

int64_t padded_key(const Problem& p) { return p.K <= 64 ? 64 : p.K <= 128 ? 128 : 256; }
int64_t per_head(const Problem& p) { return p.decay == Decay::channel ? p.K : 1; }

// One window's buffers, and the states between the windows.
struct Workspace {
  int64_t window, windows;                                       // tokens of a window, number of windows
  size_t states, A_log, dt_bias, boundary, boundaries, forward;  // bytes of each part

  explicit Workspace(const Problem& p) {
    const size_t element = p.v.dtype == Dtype::float32 ? 4 : 2;
    const size_t state = static_cast<size_t>(slices_of(p.V) * kSlice * padded_key(p)) * element;
    window = choose_window(p, 2 * state * static_cast<size_t>(p.HV));
    windows = (p.sequences.tokens + window - 1) / window;
    const auto rows = static_cast<size_t>(chunk_slots(p.sequences, {0, window}) * p.HV);
    states = aligned(rows * state);
    A_log = aligned(rows * sizeof(float));
    dt_bias = aligned(rows * static_cast<size_t>(per_head(p)) * sizeof(float));
    boundary = aligned(static_cast<size_t>(p.sequences.count * p.HV * p.K * p.V) * sizeof(float));
    boundaries = windows == 1 ? 0 : static_cast<size_t>(windows) * boundary;  // the last one: of the gradient
    forward = forward_workspace(p, {0, window});
  }
  size_t total() const { return 2 * states + A_log + dt_bias + boundaries + forward; }
};

void launch_kernels(const ReverseTask& reverse, const GradientTask& gradient, Stream stream) {
  switch (reverse.p.v.dtype) {
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
}

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
  unsigned char* const boundaries = d_states + sizes.states + sizes.A_log + sizes.dt_bias;
  void* const of_forward = boundaries + sizes.boundaries;
  // The state before window n > 0; with n = 0 the gradient of the state before the window that was processed last.
  const auto boundary = [&](int64_t n) {
    return reinterpret_cast<float*>(boundaries + static_cast<size_t>(n) * sizes.boundary);
  };
  const auto window = [&](int64_t n) { return Window{n * sizes.window, sizes.window}; };
  const auto starting = [&](int64_t n) {
    Problem from = p;
    if (n > 0) from.initial_state = boundary(n);
    return from;
  };
  for (int64_t n = 0; n + 1 < sizes.windows; ++n) {
    run_forward(starting(n), window(n), {}, boundary(n + 1), nullptr, of_forward, stream);
  }

  ReverseTask reverse{};
  reverse.p = p;
  reverse.aligned = alignment_of(p, d_o);
  reverse.parts = {1, sizes.window};
  reverse.slices = static_cast<int>(slices_of(p.V));
  reverse.consumers = choose_consumers(p, reverse.parts, reverse.slices);
  reverse.d_o = d_o;
  reverse.chunk_gradients = d_states;

  GradientTask gradient{};
  gradient.p = p;
  gradient.aligned = reverse.aligned;
  gradient.d_o = d_o;
  gradient.states = states;
  gradient.d_states = d_states;
  gradient.state_rows = slices_of(p.V) * kSlice;
  gradient.out = out;
  gradient.paired_d_v = has_paired_rows(out.v, p.V);
  gradient.d_A_log = out.A_log == nullptr ? nullptr : A_log;
  gradient.d_dt_bias = out.dt_bias == nullptr ? nullptr : dt_bias;

  for (int64_t n = sizes.windows - 1; n >= 0; --n) {
    run_forward(starting(n), window(n), {}, nullptr, states, of_forward, stream);
    reverse.window = gradient.window = window(n);
    reverse.d_final_state = n + 1 == sizes.windows ? d_final_state : boundary(0);
    reverse.d_initial_state = n == 0 ? out.initial_state : boundary(0);
    launch_kernels(reverse, gradient, stream);
    sum_chunks(p, reverse.window, A_log, 1, out.A_log, stream);
    sum_chunks(p, reverse.window, dt_bias, per_head(p), out.dt_bias, stream);
  }
}

}  // namespace klab::kernels::cuda
