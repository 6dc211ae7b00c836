// SPDX-License-Identifier: Apache-2.0
// The instruction sets that the kernels are compiled for, one of which is chosen at run time: AVX-512, AVX2 or NEON, or
// SSSE3, the baseline on x86 (kernels/CMakeLists.txt). Must be included before Highway headers.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSE4 | HWY_SVE | HWY_SVE2)
