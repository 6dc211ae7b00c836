// SPDX-License-Identifier: Apache-2.0
// The wgmma instruction for accumulators of 16 to 128 columns: inline assembly has to list every register. Right
// operands of 16 and 32 columns are K-major, those of 64 and 128 columns MN-major ("across").
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define KLAB_WARPGROUPS 1
#endif

#ifdef KLAB_WARPGROUPS
namespace klab::kernels::cuda::wgmma {

/// The instruction for 8 kTiles columns; its accumulators are adjacent tiles.
template <int kTiles, bool kBfloat16, bool kAcross>
struct Instruction;

#define KLAB_TILE(how, n) how(c[n].c[0]), how(c[n].c[1]), how(c[n].c[2]), how(c[n].c[3])
#define KLAB_TILES_2(how, n) KLAB_TILE(how, n), KLAB_TILE(how, n + 1)
#define KLAB_TILES_4(how, n) KLAB_TILES_2(how, n), KLAB_TILES_2(how, n + 2)
#define KLAB_TILES_8(how, n) KLAB_TILES_4(how, n), KLAB_TILES_4(how, n + 4)
#define KLAB_TILES_16(how, n) KLAB_TILES_8(how, n), KLAB_TILES_8(how, n + 8)

// Registers by operand number: first the accumulators, then four of a, then the descriptor of b.
#define KLAB_SUMS_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define KLAB_SUMS_16 KLAB_SUMS_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define KLAB_SUMS_32 KLAB_SUMS_16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define KLAB_SUMS_64                                                                   \
  KLAB_SUMS_32                                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// `add`: whether the accumulators' old values count.
#define KLAB_RUN(tiles, columns, format, transposed, sums, a0123, b_descriptor, add, how)                             \
  asm volatile("{\n.reg .pred p;\nsetp.eq.u32 p, " add ", 1;\nwgmma.mma_async.sync.aligned.m64n" columns              \
               "k16.f32." format "." format " {" sums "}, {" a0123 "}, " b_descriptor ", p, 1, 1, " transposed ";\n}" \
               : KLAB_TILES_##tiles(how, 0)                                                                           \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
#define KLAB_WGMMA(tiles, columns, bfloat16, format, across, transposed, sums, a0123, b_descriptor)    \
  template <>                                                                                          \
  struct Instruction<tiles, bfloat16, across> {                                                        \
    template <bool kFresh, class Tile>                                                                 \
    static __device__ __forceinline__ void run(Tile (&c)[tiles], const uint32_t (&a)[4], uint64_t b) { \
      if constexpr (kFresh) {                                                                          \
        KLAB_RUN(tiles, columns, format, transposed, sums, a0123, b_descriptor, "0", "=f");            \
      } else {                                                                                         \
        KLAB_RUN(tiles, columns, format, transposed, sums, a0123, b_descriptor, "1", "+f");            \
      }                                                                                                \
    }                                                                                                  \
  };
#define KLAB_WGMMAS(tiles, columns, across, transposed, sums, a0123, b)        \
  KLAB_WGMMA(tiles, columns, true, "bf16", across, transposed, sums, a0123, b) \
  KLAB_WGMMA(tiles, columns, false, "f16", across, transposed, sums, a0123, b)

KLAB_WGMMAS(2, "16", false, "0", KLAB_SUMS_8, "%8, %9, %10, %11", "%12")
KLAB_WGMMAS(4, "32", false, "0", KLAB_SUMS_16, "%16, %17, %18, %19", "%20")
KLAB_WGMMAS(8, "64", true, "1", KLAB_SUMS_32, "%32, %33, %34, %35", "%36")
KLAB_WGMMAS(16, "128", true, "1", KLAB_SUMS_64, "%64, %65, %66, %67", "%68")

#undef KLAB_WGMMAS
#undef KLAB_WGMMA
#undef KLAB_RUN
#undef KLAB_SUMS_64
#undef KLAB_SUMS_32
#undef KLAB_SUMS_16
#undef KLAB_SUMS_8
#undef KLAB_TILES_16
#undef KLAB_TILES_8
#undef KLAB_TILES_4
#undef KLAB_TILES_2
#undef KLAB_TILE

}  // namespace klab::kernels::cuda::wgmma
#endif
