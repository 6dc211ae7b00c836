// The matrix product of every projection.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/common/export.h"

namespace klab::kernels {

/// x weight^T: x [.., K], weight [N, K] gives [.., N] in x's dtype.
///
/// A weight of x's own dtype: differentiable. Without a gradient the weight may be narrower than x: bfloat16 or
/// float16 with x float32, or int8 with `scale` [N] float32, for scale[n] times row n, with x float32, bfloat16 or
/// float16.
///
/// On the CPU, float32 goes to oneDNN, which uses the whole vector width of every processor; ATen's own choice, MKL,
/// does so on Intel's alone (elsewhere it reaches half of the speed, as `klab bench` shows). Few rows without a
/// gradient take a kernel of this project's own that is bound by reading the weight: sums in float32, and a row's bits
/// depend on that row and the weight alone. Many rows with a narrower weight widen it a block at a time, at most 8 MiB
/// (or one row): to x's dtype, or, for float16 with int8, to float32, for the sums of integers overflow float16. The
/// scale is applied to the result, since the integers themselves are exact in bfloat16. Everything else, and what is
/// too small to gain, goes to at::linear.
///
/// Throws c10::ValueError that names the argument: wrong shapes, devices and dtypes, a scale without int8 or int8
/// without a scale, a gradient of a narrower weight.
KLAB_API at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale = {});

/// A weight in eight bits: row n is scale[n] times its integers, -127..127.
struct QuantisedWeight {
  at::Tensor values;  ///< int8 [N, K]
  at::Tensor scale;   ///< float32 [N]
  /// Over all numbers: of what the rounding changed, and of the weight.
  double squared_error = 0, squared_sum = 0;
};

/// Rounds `weight` [N, K], of any floating dtype, to nearest, ties to even; scale is a row's largest magnitude / 127,
/// 1 for a row of zeros, never denormal. Needs no more memory than the result and a row for each thread. Throws
/// c10::ValueError when the weight is no matrix on the CPU or one of its numbers is not finite in float32.
KLAB_API QuantisedWeight quantise(const at::Tensor& weight);

}  // namespace klab::kernels
