// The instruction sets that the kernels are compiled for, one of which is taken at run time: AVX-512, AVX2 or NEON,
// with SSSE3 (sources.cmake) where a processor has none of them. Included before anything of Highway.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_SVE | HWY_SVE2)
