// The wgmma instruction for sums of 16 to 128 columns: the assembler wants every register by its number. Right operands
// of 16 and 32 columns are stored along k, those of 64 and 128 across it.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define KLAB_WARPGROUPS 1
#endif

#ifdef KLAB_WARPGROUPS
namespace klab::kernels::cuda::wgmma {

/// The instruction for 8 kTiles columns; its sums are tiles side by side.
template <int kTiles, bool kBfloat16, bool kAcross>
struct Instruction;

template <>
struct Instruction<2, true, false> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[2], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7"
        "}, {%8, %9, %10, %11}, %12, p, 1, 1, 0;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};
template <>
struct Instruction<2, false, false> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[2], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7"
        "}, {%8, %9, %10, %11}, %12, p, 1, 1, 0;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};
template <>
struct Instruction<4, true, false> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
        "}, {%16, %17, %18, %19}, %20, p, 1, 1, 0;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3]), "+f"(c[2].c[0]), "+f"(c[2].c[1]), "+f"(c[2].c[2]), "+f"(c[2].c[3]),
          "+f"(c[3].c[0]), "+f"(c[3].c[1]), "+f"(c[3].c[2]), "+f"(c[3].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};
template <>
struct Instruction<4, false, false> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
        "}, {%16, %17, %18, %19}, %20, p, 1, 1, 0;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3]), "+f"(c[2].c[0]), "+f"(c[2].c[1]), "+f"(c[2].c[2]), "+f"(c[2].c[3]),
          "+f"(c[3].c[0]), "+f"(c[3].c[1]), "+f"(c[3].c[2]), "+f"(c[3].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};
template <>
struct Instruction<8, true, true> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[8], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
        "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
        "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3]), "+f"(c[2].c[0]), "+f"(c[2].c[1]), "+f"(c[2].c[2]), "+f"(c[2].c[3]),
          "+f"(c[3].c[0]), "+f"(c[3].c[1]), "+f"(c[3].c[2]), "+f"(c[3].c[3]), "+f"(c[4].c[0]), "+f"(c[4].c[1]),
          "+f"(c[4].c[2]), "+f"(c[4].c[3]), "+f"(c[5].c[0]), "+f"(c[5].c[1]), "+f"(c[5].c[2]), "+f"(c[5].c[3]),
          "+f"(c[6].c[0]), "+f"(c[6].c[1]), "+f"(c[6].c[2]), "+f"(c[6].c[3]), "+f"(c[7].c[0]), "+f"(c[7].c[1]),
          "+f"(c[7].c[2]), "+f"(c[7].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};
template <>
struct Instruction<8, false, true> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[8], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
        "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
        "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3]), "+f"(c[2].c[0]), "+f"(c[2].c[1]), "+f"(c[2].c[2]), "+f"(c[2].c[3]),
          "+f"(c[3].c[0]), "+f"(c[3].c[1]), "+f"(c[3].c[2]), "+f"(c[3].c[3]), "+f"(c[4].c[0]), "+f"(c[4].c[1]),
          "+f"(c[4].c[2]), "+f"(c[4].c[3]), "+f"(c[5].c[0]), "+f"(c[5].c[1]), "+f"(c[5].c[2]), "+f"(c[5].c[3]),
          "+f"(c[6].c[0]), "+f"(c[6].c[1]), "+f"(c[6].c[2]), "+f"(c[6].c[3]), "+f"(c[7].c[0]), "+f"(c[7].c[1]),
          "+f"(c[7].c[2]), "+f"(c[7].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};
template <>
struct Instruction<16, true, true> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[16], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
        "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
        "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
        "%62, %63"
        "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3]), "+f"(c[2].c[0]), "+f"(c[2].c[1]), "+f"(c[2].c[2]), "+f"(c[2].c[3]),
          "+f"(c[3].c[0]), "+f"(c[3].c[1]), "+f"(c[3].c[2]), "+f"(c[3].c[3]), "+f"(c[4].c[0]), "+f"(c[4].c[1]),
          "+f"(c[4].c[2]), "+f"(c[4].c[3]), "+f"(c[5].c[0]), "+f"(c[5].c[1]), "+f"(c[5].c[2]), "+f"(c[5].c[3]),
          "+f"(c[6].c[0]), "+f"(c[6].c[1]), "+f"(c[6].c[2]), "+f"(c[6].c[3]), "+f"(c[7].c[0]), "+f"(c[7].c[1]),
          "+f"(c[7].c[2]), "+f"(c[7].c[3]), "+f"(c[8].c[0]), "+f"(c[8].c[1]), "+f"(c[8].c[2]), "+f"(c[8].c[3]),
          "+f"(c[9].c[0]), "+f"(c[9].c[1]), "+f"(c[9].c[2]), "+f"(c[9].c[3]), "+f"(c[10].c[0]), "+f"(c[10].c[1]),
          "+f"(c[10].c[2]), "+f"(c[10].c[3]), "+f"(c[11].c[0]), "+f"(c[11].c[1]), "+f"(c[11].c[2]), "+f"(c[11].c[3]),
          "+f"(c[12].c[0]), "+f"(c[12].c[1]), "+f"(c[12].c[2]), "+f"(c[12].c[3]), "+f"(c[13].c[0]), "+f"(c[13].c[1]),
          "+f"(c[13].c[2]), "+f"(c[13].c[3]), "+f"(c[14].c[0]), "+f"(c[14].c[1]), "+f"(c[14].c[2]), "+f"(c[14].c[3]),
          "+f"(c[15].c[0]), "+f"(c[15].c[1]), "+f"(c[15].c[2]), "+f"(c[15].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};
template <>
struct Instruction<16, false, true> {
  template <class Tile>
  static __device__ __forceinline__ void run(Tile (&c)[16], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.eq.u32 p, 1, 1;\nwgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, "
        "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "
        "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "
        "%62, %63"
        "}, {%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}"
        : "+f"(c[0].c[0]), "+f"(c[0].c[1]), "+f"(c[0].c[2]), "+f"(c[0].c[3]), "+f"(c[1].c[0]), "+f"(c[1].c[1]),
          "+f"(c[1].c[2]), "+f"(c[1].c[3]), "+f"(c[2].c[0]), "+f"(c[2].c[1]), "+f"(c[2].c[2]), "+f"(c[2].c[3]),
          "+f"(c[3].c[0]), "+f"(c[3].c[1]), "+f"(c[3].c[2]), "+f"(c[3].c[3]), "+f"(c[4].c[0]), "+f"(c[4].c[1]),
          "+f"(c[4].c[2]), "+f"(c[4].c[3]), "+f"(c[5].c[0]), "+f"(c[5].c[1]), "+f"(c[5].c[2]), "+f"(c[5].c[3]),
          "+f"(c[6].c[0]), "+f"(c[6].c[1]), "+f"(c[6].c[2]), "+f"(c[6].c[3]), "+f"(c[7].c[0]), "+f"(c[7].c[1]),
          "+f"(c[7].c[2]), "+f"(c[7].c[3]), "+f"(c[8].c[0]), "+f"(c[8].c[1]), "+f"(c[8].c[2]), "+f"(c[8].c[3]),
          "+f"(c[9].c[0]), "+f"(c[9].c[1]), "+f"(c[9].c[2]), "+f"(c[9].c[3]), "+f"(c[10].c[0]), "+f"(c[10].c[1]),
          "+f"(c[10].c[2]), "+f"(c[10].c[3]), "+f"(c[11].c[0]), "+f"(c[11].c[1]), "+f"(c[11].c[2]), "+f"(c[11].c[3]),
          "+f"(c[12].c[0]), "+f"(c[12].c[1]), "+f"(c[12].c[2]), "+f"(c[12].c[3]), "+f"(c[13].c[0]), "+f"(c[13].c[1]),
          "+f"(c[13].c[2]), "+f"(c[13].c[3]), "+f"(c[14].c[0]), "+f"(c[14].c[1]), "+f"(c[14].c[2]), "+f"(c[14].c[3]),
          "+f"(c[15].c[0]), "+f"(c[15].c[1]), "+f"(c[15].c[2]), "+f"(c[15].c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
  }
};

}  // namespace klab::kernels::cuda::wgmma
#endif
