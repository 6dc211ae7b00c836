// SPDX-License-Identifier: Apache-2.0
// Random inputs for the cases: float64 on the CPU, from an explicit generator.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include "core/check/cases.h"

namespace klab {

at::Generator seeded_generator(uint64_t seed);

/// Standard normal.
at::Tensor normal(at::IntArrayRef shape, at::Generator& generator);

/// Uniform in [low, high).
at::Tensor uniform(at::IntArrayRef shape, double low, double high, at::Generator& generator);

/// Random unit vectors along the last dimension, like q and k after the L2 norm.
at::Tensor directions(at::IntArrayRef shape, at::Generator& generator);

/// Log-decays [B, T, HV] or [B, T, HV, K] with the distribution `gates`.
at::Tensor log_decays(at::IntArrayRef shape, Gates gates, at::Generator& generator);

}  // namespace klab
