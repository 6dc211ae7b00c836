// SPDX-License-Identifier: Apache-2.0
// What experiments/bench/gpu/model reads of the recurrence kernels. Compiled twice: for the device, the library's
// kernels for bfloat16 and K up to 128; for the host (KLAB_MODEL_HOST), a program that prints as JSON what the library
// launches for the modelled workloads: parameters as bytes, plans, layouts.
#include "kernels/recurrence/cuda/recurrence_forward.cuh"
#include "kernels/recurrence/cuda/recurrence_gradient.cuh"
#include "kernels/recurrence/cuda/recurrence_reverse.cuh"
#include "kernels/recurrence/cuda/recurrence_step.cuh"

namespace klab::kernels::cuda {

using Portable = HalfOperand<Bfloat16>;
using Hopper = WarpgroupOperand<Bfloat16>;

#ifndef KLAB_MODEL_HOST
template __global__ void forward_kernel<Portable, false, 128>(const ForwardTask);
template __global__ void forward_kernel<Hopper, false, 128>(const ForwardTask);
template __global__ void reverse_kernel<Portable, false, 128>(const ReverseTask);
template __global__ void gradient_kernel<StateOrdered<Portable>, false, 128>(const GradientTask);
template __global__ void step_kernel<128, true>(const StepTask);
#ifdef KLAB_MODEL_DPLR
template __global__ void forward_kernel<Portable, true, 128>(const ForwardTask);
template __global__ void forward_kernel<Hopper, true, 128>(const ForwardTask);
template __global__ void reverse_kernel<Portable, true, 128>(const ReverseTask);
template __global__ void gradient_kernel<StateOrdered<Portable>, true, 128>(const GradientTask);
#endif
#endif

}  // namespace klab::kernels::cuda

#ifdef KLAB_MODEL_HOST

#include <cstdio>
#include <string>
#include <vector>

#include "kernels/recurrence/cuda/forward_plan.cu"
#include "kernels/recurrence/cuda/gradient_layout.h"

// The modelled device, in place of the CUDA runtime: an H100 or H200 (SXM). Device code has functions of these names.
#ifndef __CUDA_ARCH__
extern "C" cudaError_t CUDARTAPI cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 227 * 1024; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    default: *value = 0;
  }
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaGetLastError() { return cudaSuccess; }
const char* CUDARTAPI cudaGetErrorString(cudaError_t) { return ""; }
extern "C" void** CUDARTAPI __cudaRegisterFatBinary(void*) { return nullptr; }
extern "C" void CUDARTAPI __cudaRegisterFatBinaryEnd(void**) {}
extern "C" void CUDARTAPI __cudaUnregisterFatBinary(void**) {}
#endif

namespace klab::kernels::cuda {
namespace {

constexpr int64_t kHead = 128;  // K and V
constexpr int kProbe = 4;       // chunks per producer group, in the runs whose path is followed

// Device addresses that are never dereferenced; their alignment is that of an allocation.
void* address() {
  static uint64_t next = uint64_t{1} << 40;
  return reinterpret_cast<void*>(next += uint64_t{1} << 34);
}

template <class View>
View rows(int64_t tokens, int64_t heads, int64_t width, Dtype dtype = Dtype::bfloat16) {
  return {address(), tokens * heads * width, heads * width, width, dtype};
}

struct Workload {
  int64_t T, H;
  Decay decay = Decay::channel;
};

Problem problem(const Workload& w) {
  Problem p{};
  p.q = rows<Rows>(w.T, w.H, kHead);
  p.k = rows<Rows>(w.T, w.H, kHead);
  p.v = rows<Rows>(w.T, w.H, kHead);
  p.g = w.decay == Decay::channel ? rows<Rows>(w.T, w.H, kHead) : rows<Rows>(w.T, w.H, 1, Dtype::float32);
  p.beta = rows<Rows>(w.T, w.H, 1);
  p.decay = w.decay;
  p.update = Update::delta;
  p.H = p.HV = w.H;
  p.K = p.V = kHead;
  p.scale = 0.0883883476f;
  p.l2norm = true;
  p.sequences = {1, w.T};
  return p;
}

// Which of the passes of run_forward() and recurrence_backward().
enum class Pass { whole, with_states, maps, joined };

ForwardTask forward_task(const Workload& w, Pass pass, const Parts& parts) {
  ForwardTask task{};
  task.p = problem(w);
  task.window = {0, w.T};
  task.aligned = {true, true, true};
  task.parts = parts;
  task.slices = static_cast<int>(slices_of(kHead) * (pass == Pass::maps ? 2 : 1));
  task.consumers = choose_consumers(task.p, parts, task.slices);
  if (pass == Pass::maps) {
    task.part_map = static_cast<float*>(address());
    task.part_offset = static_cast<float*>(address());
    return task;
  }
  if (pass == Pass::joined) task.entering_states = static_cast<const float*>(address());
  if (pass == Pass::with_states) {
    task.chunk_states = address();
    return task;
  }
  task.o = rows<MutableRows>(w.T, w.H, kHead);
  task.paired_o = true;
  task.final_state = static_cast<float*>(address());
  return task;
}

ReverseTask reverse_task(const Workload& w) {
  ReverseTask task{};
  task.p = problem(w);
  task.window = {0, w.T};
  task.aligned = {true, true, true};
  task.parts = {1, w.T};
  task.slices = static_cast<int>(slices_of(kHead));
  task.consumers = choose_consumers(task.p, task.parts, task.slices);
  task.d_o = rows<Rows>(w.T, w.H, kHead);
  task.chunk_gradients = address();
  return task;
}

GradientTask gradient_task(const Workload& w) {
  GradientTask task{};
  task.p = problem(w);
  task.window = {0, w.T};
  task.aligned = {true, true, true};
  task.d_o = rows<Rows>(w.T, w.H, kHead);
  task.states = address();
  task.d_states = address();
  task.state_rows = slices_of(kHead) * kSlice;
  task.out.q = rows<MutableRows>(w.T, w.H, kHead);
  task.out.k = rows<MutableRows>(w.T, w.H, kHead);
  task.out.v = rows<MutableRows>(w.T, w.H, kHead);
  task.paired_d_v = true;
  task.out.g = rows<MutableRows>(w.T, w.H, kHead);
  task.out.beta = rows<MutableRows>(w.T, w.H, 1);
  return task;
}

template <class Task>
std::string bytes(const Task& task) {
  std::string text;
  char two[3];
  for (size_t n = 0; n < sizeof task; ++n) {
    std::snprintf(two, sizeof two, "%02x", reinterpret_cast<const unsigned char*>(&task)[n]);
    text += two;
  }
  return text;
}

// One token of each of `sequences` sequences.
StepTask step_task(int64_t sequences, int64_t heads) {
  StepTask task{};
  task.p = problem({1, heads});
  task.p.sequences = {sequences, 1};
  task.p.initial_state = static_cast<const float*>(address());
  task.o = rows<MutableRows>(1, heads, kHead);
  task.final_state = static_cast<float*>(address());
  task.heads_per_key = 1;
  return task;
}
int64_t step_blocks(int64_t sequences, int64_t heads) { return sequences * heads * kHead / kStepColumns; }

// --- JSON ---

const char* separator = "";

// Words of the mangled name.
using Symbol = std::vector<const char*>;

Symbol chunk_kernel(const char* kernel, const char* operand) { return {kernel, operand, "Bfloat16", "Lb0E", "Li128E"}; }

template <class Task>
void print_kernel(const char* name, const Symbol& symbol, int threads, unsigned grid, size_t shared, int chunks,
                  bool walks, const Task& task) {
  std::string words;
  for (const char* word : symbol) words += (words.empty() ? "\"" : ", \"") + std::string(word) + "\"";
  std::printf(
      "%s\n{\"name\": \"%s\", \"symbol\": [%s], \"threads\": %d, \"grid\": %u, \"shared_memory\": %zu, "
      "\"chunks\": %d, \"walks\": %s, \"parameters\": \"%s\"}",
      separator, name, words.c_str(), threads, grid, shared, chunks, walks ? "true" : "false", bytes(task).c_str());
  separator = ",";
}

template <class Operand>
void print_forward(const char* name, const char* operand, Workload w, Pass pass, int parts = 1) {
  using F = Forward<Operand, false, 128>;
  const int chunks = kProbe * F::Layout::kGroups;
  w.T = int64_t{kChunk} * chunks * parts;
  ForwardTask task = forward_task(w, pass, split_into_parts(w.T, parts));
  task.groups = F::Layout::groups_in(kSharedOfHopper);
  print_kernel(name, chunk_kernel("forward_kernel", operand), F::threads(task), task.grid().x,
               F::Layout::shared(task.groups), chunks, true, task);
}

void print_kernels() {
  const Workload kda{0, 64}, few{0, 8};
  print_forward<Portable>("kda_forward", "HalfOperand", kda, Pass::whole);
  print_forward<Hopper>("kda_forward_hopper", "WarpgroupOperand", kda, Pass::whole);
  print_forward<Portable>("kda_forward_maps", "HalfOperand", few, Pass::maps, 8);
  print_forward<Portable>("kda_forward_states", "HalfOperand", kda, Pass::with_states);
  print_forward<Portable>("gdn_forward", "HalfOperand", {0, 64, Decay::scalar}, Pass::whole);

  using R = Reverse<Portable, false, 128>;
  const int chunks = kProbe * R::Layout::kGroups;
  ReverseTask reverse = reverse_task({int64_t{kChunk} * chunks, 64});
  reverse.groups = R::Layout::groups_in(kSharedOfHopper);
  print_kernel("kda_reverse", chunk_kernel("reverse_kernel", "HalfOperand"), R::threads(reverse), reverse.grid().x,
               R::Layout::shared(reverse.groups), chunks, true, reverse);
  using G = Gradient<StateOrdered<Portable>, false, 128>;
  const GradientTask gradient = gradient_task({kChunk, 64});
  print_kernel("kda_gradient", chunk_kernel("gradient_kernel", "HalfOperand"), G::kThreads, 64, G::Memory::kTotal, 1,
               false, gradient);
  print_kernel("kda_step", {"step_kernel", "Li128E", "Lb1E"}, kStepThreads, static_cast<unsigned>(step_blocks(1, 32)),
               sizeof(TokenVectors), 1, false, step_task(1, 32));
}

// A launch of a workload: a kernel of print_kernels(), its blocks, the chunks of each, and the bytes of device memory
// that it has to read and write, each once.
struct Launch {
  const char* kernel;
  int64_t blocks, chunks;
  double bytes;
};

void print_workload(const char* name, const std::vector<Launch>& launches) {
  std::printf("%s\n{\"name\": \"%s\", \"launches\": [", separator, name);
  separator = ",";
  const char* comma = "";
  for (const Launch& x : launches) {
    std::printf("%s{\"kernel\": \"%s\", \"blocks\": %lld, \"chunks\": %lld, \"bytes\": %.0f}", comma, x.kernel,
                static_cast<long long>(x.blocks), static_cast<long long>(x.chunks), x.bytes);
    comma = ", ";
  }
  std::printf("]}");
}

Launch forward_launch(const char* kernel, const Workload& w, Pass pass, const Parts& parts, double bytes) {
  const ForwardTask task = forward_task(w, pass, parts);
  return {kernel, task.grid().x, (parts.tokens + kChunk - 1) / kChunk, bytes};
}

void print_workloads() {
  const auto element = [](const Workload& w) { return 2.0 * static_cast<double>(w.T * w.H); };  // of a number per head
  const auto state = [](const Workload& w) { return 4.0 * static_cast<double>(w.H * kHead * kHead); };
  const double row = kHead;
  const Workload kda{8192, 64}, gdn{8192, 64, Decay::scalar}, few{65536, 8};
  const Parts one{1, 8192};

  const double forward = element(kda) * (5 * row + 1) + state(kda);  // q, k, v, g, o, beta
  print_workload("kda_forward_8k", {forward_launch("kda_forward", kda, Pass::whole, one, forward)});
  print_workload("kda_forward_8k_hopper", {forward_launch("kda_forward_hopper", kda, Pass::whole, one, forward)});
  print_workload("gdn_forward_8k",
                 {forward_launch("gdn_forward", gdn, Pass::whole, one, element(gdn) * (4 * row + 3) + state(gdn))});

  const Parts parts = choose_parts(problem(few), {0, few.T});
  if (parts.count > 1) {
    const double of_parts = state(few) * parts.count;
    print_workload(
        "kda_forward_64k",
        {forward_launch("kda_forward_maps", few, Pass::maps, parts, element(few) * (4 * row + 1) + 2 * of_parts),
         forward_launch("kda_forward", few, Pass::joined, parts, element(few) * (5 * row + 1) + of_parts)});
  } else {
    print_workload("kda_forward_64k",
                   {forward_launch("kda_forward", few, Pass::whole, parts, element(few) * (5 * row + 1))});
  }

  const double states = element(kda) / kChunk * row * row;  // the state of every chunk
  const ReverseTask reverse = reverse_task(kda);
  print_workload(
      "kda_backward_8k",
      {forward_launch("kda_forward_states", kda, Pass::with_states, one, element(kda) * (4 * row + 1) + states),
       {"kda_reverse", reverse.grid().x, 8192 / kChunk, element(kda) * (4 * row + 1) + states},
       {"kda_gradient", chunk_slots({1, 8192}) * 64, 1, element(kda) * (9 * row + 2) + 2 * states}});

  for (const int64_t batch : {1, 16, 256}) {  // a token per sequence, 32 heads: the state is read and written
    const Workload token{batch, 32};
    print_workload(("kda_decode_b" + std::to_string(batch)).c_str(),
                   {{"kda_step", step_blocks(batch, 32), 1,
                     element(token) * (5 * row + 1) + 2 * static_cast<double>(batch) * state(token)}});
  }
}

// An access of shared memory by a warp: byte offsets of the lanes that take part, and bytes per lane.
template <class Offset>
void print_pattern(const char* name, int lanes, int width, const Offset& offset) {
  std::printf("%s\n{\"name\": \"%s\", \"width\": %d, \"offsets\": [", separator, name, width);
  separator = ",";
  for (int lane = 0; lane < lanes; ++lane) std::printf("%s%d", lane == 0 ? "" : ", ", offset(lane));
  std::printf("]}");
}

template <TileOrder kOrder>
void print_patterns(const std::string& tier) {
  using Tiles = TileLayout<kHead, kOrder>;
  const auto name = [&](const char* what) { return tier + ": " + what; };
  print_pattern(name("a thread's two channels of a token, write").c_str(), 32, 4,
                [](int lane) { return 2 * Tiles::offset(3, 2 * lane); });
  print_pattern(name("8 tokens x 8 channels, read as a matrix").c_str(), 8, 16,
                [](int lane) { return 2 * Tiles::offset(lane, 8); });
  print_pattern(name("16 tokens x 16 channels, read as four matrices").c_str(), 32, 16,
                [](int lane) { return 2 * Tiles::offset(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8); });
  print_pattern(name("a row of a 16 x 16 matrix, write").c_str(), 32, 2,
                [](int lane) { return 2 * Tiles::small_offset(lane / 16, lane % 16); });
  print_pattern(name("a column of a 16 x 16 matrix, write").c_str(), 16, 2,
                [](int lane) { return 2 * Tiles::small_offset(3, lane); });
  print_pattern(name("a 16 x 16 matrix, read as four matrices").c_str(), 32, 16,
                [](int lane) { return 2 * Tiles::small_offset(lane / 16 * 8 + lane % 8, lane / 8 % 2 * 8); });
}

}  // namespace
}  // namespace klab::kernels::cuda

int main() {
  using namespace klab::kernels::cuda;
  std::printf("{\"kernels\": [");
  print_kernels();
  std::printf("],\n\"workloads\": [");
  separator = "";
  print_workloads();
  std::printf("],\n\"patterns\": [");
  separator = "";
  print_patterns<TileOrder::rows>("portable");
  print_patterns<TileOrder::core_matrices>("hopper");
  std::printf("]}\n");
  return 0;
}

#endif
