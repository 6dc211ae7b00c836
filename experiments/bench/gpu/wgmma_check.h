// SPDX-License-Identifier: Apache-2.0
// A test of the wgmma instruction and of the shared memory descriptors of its right operands, in the layouts of the
// chunk kernels (TileLayout): matrices of small integers, whose products are exact.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <vector>

namespace klab {

/// c += a b with row-major device memory: a [64, depth], b [depth, columns], c [64, columns].
struct WgmmaOperands {
  const float* a;
  const float* b;
  float* c;
  int pitch;      ///< in the descriptor, see WgmmaProduct
  float padding;  ///< in shared memory around b
};

/// A product of one warpgroup: a in registers, b in shared memory as core matrices, 16 of `depth` per instruction.
struct WgmmaProduct {
  bool bfloat16;
  bool across;  ///< b is MN-major, else K-major
  int columns, depth;
  int pitch;  ///< bytes between core matrices of b adjacent in channels: in k if it is K-major, else in columns
  void (*run)(const WgmmaOperands& operands);  ///< asynchronous, on the default stream
};

/// The products of the chunk kernels, for both dtypes.
std::vector<WgmmaProduct> wgmma_products();

/// Whether the current device has the instruction.
bool has_wgmma();

/// Computes every product on `device` and compares it with the exact one. Prints CSV, a row per product and kind of
/// values: "integers" for both operands; "k" and "columns", where each row of the result should be one row of b, which
/// holds its own row or column numbers, so that a wrong result says what was read instead (-1: none of b). Adds
/// `pitch_error` bytes to the pitch of the descriptors. Returns the number of wrong products.
int64_t check_wgmma(at::Device device, int pitch_error);

/// The row for a device without wgmma.
void skip_wgmma();

}  // namespace klab
