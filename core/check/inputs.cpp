// SPDX-License-Identifier: Apache-2.0
#include "core/check/inputs.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <limits>

namespace klab {

using at::Tensor;

at::Generator seeded_generator(uint64_t seed) { return at::make_generator<at::CPUGeneratorImpl>(seed); }

Tensor normal(at::IntArrayRef shape, at::Generator& generator) { return at::randn(shape, generator, at::kDouble); }

Tensor uniform(at::IntArrayRef shape, double low, double high, at::Generator& generator) {
  return low + (high - low) * at::rand(shape, generator, at::kDouble);
}

Tensor directions(at::IntArrayRef shape, at::Generator& generator) {
  const Tensor x = normal(shape, generator);
  return x / x.square().sum(-1, /*keepdim=*/true).sqrt();
}

Tensor log_decays(at::IntArrayRef shape, Gates gates, at::Generator& generator) {
  if (gates == Gates::strong) return at::full(shape, -5.0, at::kDouble);
  if (gates == Gates::saturated) return -5 * uniform(shape, 0, 1, generator).round();
  // Rates spread over three decades, like the initial dt of the gated mixers.
  const Tensor g = -uniform(shape, -6, 1, generator).exp();
  if (gates == Gates::ordinary) return g;
  std::vector<int64_t> tokens = shape.vec();
  for (size_t d = 2; d < tokens.size(); ++d) tokens[d] = 1;  // every head and channel of a token
  const Tensor reset = (uniform(shape, 0, 1, generator) < 0.05) | (uniform(tokens, 0, 1, generator) < 0.05);
  return g.masked_fill(reset, gates == Gates::resets ? -1000 : -std::numeric_limits<double>::infinity());
}

}  // namespace klab
