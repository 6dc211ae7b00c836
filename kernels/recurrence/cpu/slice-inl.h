// SPDX-License-Identifier: Apache-2.0
// Slices of V's columns. The columns of the state are independent, so a slice's results are those of the whole.
#if defined(KLAB_KERNELS_CPU_SLICE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KLAB_KERNELS_CPU_SLICE_INL_H_
#undef KLAB_KERNELS_CPU_SLICE_INL_H_
#else
#define KLAB_KERNELS_CPU_SLICE_INL_H_
#endif

#include "kernels/recurrence/cpu/recurrence.h"

HWY_BEFORE_NAMESPACE();
namespace klab::kernels::cpu {
namespace HWY_NAMESPACE {

struct Slices {
  int64_t columns, count;

  // At most `most` slices of V columns.
  Slices(int64_t V, int64_t most) {
    constexpr int64_t kFewest = 32;  // columns, a multiple of every panel's width
    const int64_t blocks = (V + kFewest - 1) / kFewest;
    columns = (blocks + most - 1) / most * kFewest;
    count = (V + columns - 1) / columns;
  }
};

template <typename View>
View shifted(View rows, int64_t elements) {
  rows.data =
      static_cast<char*>(const_cast<void*>(static_cast<const void*>(rows.data))) + elements * bytes_of(rows.dtype);
  return rows;
}

template <typename T>
T* shifted(T* x, int64_t elements) {
  return x == nullptr ? nullptr : x + elements;
}

// The problem restricted to the slice that begins at column `first`.
inline Problem slice_of(const Problem& p, const Slices& slices, int64_t first) {
  Problem slice = p;
  slice.V = HWY_MIN(slices.columns, p.V - first);
  slice.v = shifted(p.v, first);
  slice.initial_state = shifted(p.initial_state, first);
  return slice;
}

}  // namespace HWY_NAMESPACE
}  // namespace klab::kernels::cpu
HWY_AFTER_NAMESPACE();
#endif
