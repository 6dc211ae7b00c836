// SPDX-License-Identifier: Apache-2.0
// The CUDA features that the kernels use: threads, memory, and PTX instructions wrapped in functions.
//
// The kernels use PTX only through this header, so that another header of the same name (tests/support/cuda_emulation)
// can run them on the host. Matrix fragments have the layouts of PTX's mma.m16n8k16 and m16n8k8; for lane l,
// g = l / 4 and t = l % 4.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/common/cuda/check.h"
#include "kernels/common/cuda/wgmma.cuh"

namespace klab::kernels::cuda {

// --- Threads ----------------------------------------------------------------------------------------------------

__device__ __forceinline__ void block_barrier() { __syncthreads(); }
__device__ __forceinline__ void warp_barrier() { __syncwarp(); }

/// Waits until `threads` threads (whole warps) have arrived at named barrier `number` (1..15) by this function or
/// barrier_arrive(). All threads of a warp must call it together.
__device__ __forceinline__ void barrier_wait(int number, int threads) {
  __syncwarp();
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

/// Arrives at the barrier without waiting; the writes of this thread become visible to the waiting threads.
__device__ __forceinline__ void barrier_arrive(int number, int threads) {
  asm volatile("fence.acq_rel.cta;" ::: "memory");
  __syncwarp();
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

__device__ __forceinline__ float shuffle_xor(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }
__device__ __forceinline__ float shuffle(float x, int lane) { return __shfl_sync(0xffffffffu, x, lane); }

/// x, as a value that the compiler knows nothing about: what follows from it is computed where it is used, not once
/// before a loop and kept in registers.
__device__ __forceinline__ int opaque(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

/// The block's dynamic shared memory, aligned to 128 bytes.
__device__ __forceinline__ unsigned char* shared_memory() {
  extern __shared__ __align__(128) unsigned char klab_shared_memory[];
  return klab_shared_memory;
}

// --- Numbers ----------------------------------------------------------------------------------------------------

/// Two floats rounded to nearest even; `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bfloat16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
__device__ __forceinline__ uint32_t pack_float16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}
__device__ __forceinline__ float float16_to_float(uint16_t bits) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
  return x;
}
__device__ __forceinline__ float as_float(uint32_t bits) { return __uint_as_float(bits); }
__device__ __forceinline__ uint32_t as_bits(float x) { return __float_as_uint(x); }
/// 2^x with a relative error of 2^-22; results below 2^-126 are zero.
__device__ __forceinline__ float approximate_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// Rounded to TF32 (ten mantissa bits).
__device__ __forceinline__ float round_to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return as_float(bits);
}

// --- Matrix fragments ---------------------------------------------------------------------------------------------

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

/// Loads four matrices of 8 x 8 16-bit numbers: lane l passes the address of row l % 8 of matrix l / 8 (16 bytes,
/// aligned) and receives the elements [g][2t], [g][2t + 1] of each matrix; transposed: [2t][g], [2t + 1][g].
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

/// Transposes the fragment of an 8 x 8 matrix of 16-bit numbers.
__device__ __forceinline__ uint32_t transpose_matrix(uint32_t x) {
  uint32_t y;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

/// c += a b, 16 x 8 += 16 x 16 times 16 x 8.
__device__ __forceinline__ void multiply_bfloat16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_float16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/// c += a b, 16 x 8 += 16 x 8 times 8 x 8; a and b must be rounded by round_to_tf32().
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(as_bits(a[0])), "r"(as_bits(a[1])), "r"(as_bits(a[2])), "r"(as_bits(a[3])), "r"(as_bits(b[0])),
        "r"(as_bits(b[1])));
}

// --- Warpgroup products, wgmma (sm_90a) -----------------------------------------------------------------------------

/// A right operand of 16 x n 16-bit numbers in shared memory, made of core matrices of 8 rows of 16 bytes, each
/// contiguous. K-major, [n][k]: a core matrix has 8 columns n by 8 k. MN-major ("across"), [k][n]: it has 8 k by 8
/// columns n. In both, `leading` is the offset in bytes to the other 8 k and `stride` the offset to the next 8 columns.
/// It starts `offset` bytes after `base`; constant offsets cost one instruction.
struct SharedMatrix {
  const void* base;
  int offset, leading, stride;
};

/// Makes the shared memory writes of this thread visible to wgmma after the next barrier.
__device__ __forceinline__ void publish_to_warpgroups() {
#ifdef KLAB_WARPGROUPS
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/// Needed before the first wgmma of a batch, and after other instructions wrote operand or accumulator registers.
__device__ __forceinline__ void warpgroup_begin() {
#ifdef KLAB_WARPGROUPS
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void warpgroup_commit() {
#ifdef KLAB_WARPGROUPS
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/// Waits for all but the last `kPending` batches.
template <int kPending>
__device__ __forceinline__ void warpgroup_wait() {
#ifdef KLAB_WARPGROUPS
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
#endif
}

/// Call after warpgroup_wait(): keeps the compiler from reading the accumulators before the wait.
template <class Tile, int kTiles>
__device__ __forceinline__ void warpgroup_done(Tile (&c)[kTiles]) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int r = 0; r < 4; ++r) asm volatile("" : "+f"(c[n].c[r])::"memory");
  }
}

__device__ __forceinline__ uint64_t descriptor(const SharedMatrix& m) {
  // The address field has 14 bits, enough for all shared memory that a block can have (227 KiB).
  const auto low = (shared_address(m.base) >> 4) + static_cast<uint32_t>(m.offset / 16 + (m.leading / 16 << 16));
  return low | static_cast<uint64_t>(m.stride / 16) << 32;
}

/// c += a b, or with `kFresh` c = a b, for the four warps of a warpgroup, each with 16 rows of a and c; complete after
/// warpgroup_wait(). All warps of the warpgroup must call it together.
template <bool kBfloat16, bool kAcross, bool kFresh = false, int kTiles, class Tile>
__device__ __forceinline__ void multiply_warpgroup(Tile (&c)[kTiles], const uint32_t (&a)[4], const SharedMatrix& b) {
#ifdef KLAB_WARPGROUPS
  wgmma::Instruction<kTiles, kBfloat16, kAcross>::template run<kFresh>(c, a, descriptor(b));
#else
  __trap();  // this architecture has no wgmma; the kernel is never launched on it
#endif
}

// --- Loads ----------------------------------------------------------------------------------------------------------

/// The 16 or, if `wide`, 32 bits at `from` in global memory. The load starts here; without this the compiler moves it
/// to the first use of its result, which then waits for device memory.
__device__ __forceinline__ uint32_t load_now(const void* from, bool wide) {
  uint32_t bits;
  asm volatile(
      "{\n"
      ".reg .pred wide;\n"
      "setp.ne.b32 wide, %2, 0;\n"
      "@wide ld.global.b32 %0, [%1];\n"
      "@!wide ld.global.u16 %0, [%1];\n"
      "}"
      : "=r"(bits)
      : "l"(from), "r"(static_cast<int>(wide))
      : "memory");
  return bits;
}

// --- Asynchronous copies --------------------------------------------------------------------------------------------

/// Copies 16 aligned bytes from global to shared memory, complete after copies_wait(); zeros if `inside` is false.
__device__ __forceinline__ void copy_async(void* to_shared, const void* from_global, bool inside = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)), "l"(from_global),
               "r"(inside ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all but the last `kPending` groups of this thread.
template <int kPending>
__device__ __forceinline__ void copies_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// --- Launches -------------------------------------------------------------------------------------------------------

using Stream = cudaStream_t;

/// Launches `kernel` on a grid of blocks of `threads` threads, asynchronously. Throws c10::Error with CUDA's message.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, Stream stream,
            const Arguments&... arguments) {
  constexpr size_t kAlwaysAllowed = 48 * 1024;
  if (shared_bytes > kAlwaysAllowed) {
    KLAB_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  kernel<<<grid, static_cast<unsigned>(threads), shared_bytes, stream>>>(Parameters(arguments)...);
  KLAB_CUDA_CHECK(cudaGetLastError());
}

/// Whether this build has code for `kernel` that runs on the current device: machine code, or PTX of an older one.
template <class... Parameters>
bool has_code(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes{};
  const bool found = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel)) == cudaSuccess;
  if (!found) cudaGetLastError();  // clears it
  return found;
}

/// Whether the current device supports wgmma: only compute capability 9.0 does.
inline bool has_warpgroups() {
  int device = 0, major = 0, minor = 0;
  KLAB_CUDA_CHECK(cudaGetDevice(&device));
  KLAB_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  KLAB_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return major == 9 && minor == 0;
}

/// Bytes of shared memory that a block of the current device can have.
inline size_t shared_memory_limit() {
  int device = 0, bytes = 0;
  KLAB_CUDA_CHECK(cudaGetDevice(&device));
  KLAB_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return static_cast<size_t>(bytes);
}

/// Streaming multiprocessors of the current device.
inline int multiprocessors() {
  int device = 0, count = 0;
  KLAB_CUDA_CHECK(cudaGetDevice(&device));
  KLAB_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

}  // namespace klab::kernels::cuda
