// SPDX-License-Identifier: Apache-2.0
// The matrix product of all projections, and int8 weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "kernels/common/export.h"

namespace klab::kernels {

/// x weight^T: x [.., K], weight [N, K] gives [.., N] in x's dtype.
///
/// With a weight of x's dtype: differentiable. Without gradients the weight may be narrower than x: bfloat16 or float16
/// with x float32, or int8 with `scale` [N] float32 (row n is scale[n] times its integers) with x float32, bfloat16 or
/// float16.
///
/// On the CPU, many rows of float32 use klab's own kernel if the weight is small (see projections()), else oneDNN,
/// which uses the full vector width of every processor; ATen's default, MKL, does so only on Intel processors (on
/// others it reaches half the speed, as `klab bench` shows). Few rows without a gradient use klab's own kernel, which
/// is bound by reading the weight: it accumulates in float32, and the bits of a row depend only on that row and the
/// weight. For many rows with a narrower weight, the weight is converted in blocks of at most 8 MiB (or one row): to
/// x's dtype, or, for float16 with int8, to float32, because sums of integers overflow float16. The scale is applied to
/// the result, because the integers themselves are exact in bfloat16. Everything else, and products too small to gain,
/// use at::linear.
///
/// Throws c10::ValueError that names the argument: wrong shapes, devices and dtypes, a scale without int8 or int8
/// without a scale, a gradient of a narrower weight.
KLAB_API at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& scale = {});

/// linear(x, weight) for several weights [N_p, K] of x's dtype and one x: [.., N_p] each, with the same bits.
///
/// On the CPU, for many rows of float32 and weights of at most a few megabytes in total, klab's own kernel reads x once
/// for all of them, and in the backward pass sums the gradient of x in registers. Everything else is one linear() per
/// weight. Differentiable any number of times. Throws as linear() does.
KLAB_API std::vector<at::Tensor> projections(const at::Tensor& x, at::TensorList weights);

/// A weight quantised to int8: row n is scale[n] times its integers, -127..127.
struct QuantisedWeight {
  at::Tensor values;  ///< int8 [N, K]
  at::Tensor scale;   ///< float32 [N]
  /// Sums of squares over all elements: of the rounding errors, and of the weight itself.
  double squared_error = 0, squared_sum = 0;
};

/// Rounds `weight` [N, K], of any floating dtype, to nearest, ties to even; scale is a row's largest magnitude / 127,
/// 1 for a row of zeros, never denormal. Allocates only the result and one row per thread. Throws c10::ValueError if
/// the weight is not a matrix on the CPU or an element is not finite in float32.
KLAB_API QuantisedWeight quantise(const at::Tensor& weight);

}  // namespace klab::kernels
