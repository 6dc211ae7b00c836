// SPDX-License-Identifier: Apache-2.0
// The arguments of the latent attention kernels of all devices.
#pragma once

#include <cstdint>

#include "kernels/common/rows.h"

namespace klab::kernels {

/// latent_attention() of kernels/attention/latent_attention.h. q, cache and o have one dtype.
struct LatentProblem {
  int64_t B = 0, T = 0, H = 0, S = 0;
  int64_t width = 0, value_dim = 0;  ///< R + P and R
  float scale = 1;
  Rows q;         ///< [B, T, H, width]
  Rows cache;     ///< [B, S, 1, width]
  MutableRows o;  ///< [B, T, H, value_dim]
};

}  // namespace klab::kernels
