// SPDX-License-Identifier: Apache-2.0
#include "experiments/capacity/pairs.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/types.h>

#include <algorithm>

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kOldPerChannel = 2;  // distractors before the pairs
constexpr int64_t kBetween = 4;        // distractors after each pair

// Rows of a table [B, R, D] by their indices [B, N]: [B, N, D].
Tensor rows_of(const Tensor& table, const Tensor& indices) {
  return table.gather(1, indices.unsqueeze(-1).expand({-1, -1, table.size(2)}));
}

// Vectors that are uniform on the unit sphere, [B, N, D].
Tensor unit_vectors(int64_t B, int64_t N, int64_t D, const at::Generator& generator) {
  const Tensor x = torch::randn({B, N, D}, generator);
  return x / x.norm(2, -1, /*keepdim=*/true);
}

// Keys in the last quarter of the channels.
Tensor keys_of_last_channels(int64_t B, int64_t N, int64_t K, int64_t last, const at::Generator& generator) {
  return torch::cat({torch::zeros({B, N, K - last}), unit_vectors(B, N, last, generator)}, -1);
}

// N keys in random order, the first half of them twice.
void order_overwritten(Pairs& pairs, int64_t B, int64_t N, int64_t K, const at::Generator& generator) {
  const Tensor twice = torch::cat({torch::arange(N), torch::arange((N + 1) / 2)});                   // [T]
  const Tensor order = torch::rand({B, twice.size(0)}, generator).argsort(1, /*descending=*/false);  // [B, T]
  const Tensor pair = twice.expand_as(order).gather(1, order);  // [B, T], the pair that is written
  const Tensor steps = torch::arange(twice.size(0)).expand_as(pair);
  pairs.keys = rows_of(unit_vectors(B, N, K, generator), pair);
  pairs.last = torch::zeros({B, N}, torch::kLong).scatter_reduce(1, pair, steps, "amax");
}

void order_distractors(Pairs& pairs, int64_t B, int64_t N, int64_t K, const at::Generator& generator) {
  const int64_t old = kOldPerChannel * K, last = std::max<int64_t>(1, K / 4);
  const Tensor asked = unit_vectors(B, N, K, generator).unsqueeze(2);  // [B, N, 1, K]
  const Tensor between = keys_of_last_channels(B, N * kBetween, K, last, generator).view({B, N, kBetween, K});
  pairs.keys = torch::cat({unit_vectors(B, old, K, generator), torch::cat({asked, between}, 2).flatten(1, 2)}, 1);
  pairs.last = (old + (kBetween + 1) * torch::arange(N)).expand({B, N});
}

}  // namespace

std::string to_string(Scenario scenario) {
  switch (scenario) {
    case Scenario::plain: return "plain";
    case Scenario::overwritten: return "overwritten";
    case Scenario::distractors: return "distractors";
  }
  return "";
}

Tensor Pairs::values() const { return rows_of(vocabulary, written); }
Tensor Pairs::asked_keys() const { return rows_of(keys, last); }
Tensor Pairs::asked_values() const { return written.gather(1, last); }

Pairs draw_pairs(Scenario scenario, int64_t trials, int64_t pairs, int64_t key_dim, uint64_t key) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(key);
  const int64_t B = trials, N = pairs, K = key_dim;
  Pairs drawn;
  switch (scenario) {
    case Scenario::plain:
      drawn.keys = unit_vectors(B, N, K, generator);
      drawn.last = torch::arange(N).expand({B, N});
      break;
    case Scenario::overwritten: order_overwritten(drawn, B, N, K, generator); break;
    case Scenario::distractors: order_distractors(drawn, B, N, K, generator); break;
  }
  drawn.written = torch::randint(kVocabulary, {B, drawn.keys.size(1)}, generator, torch::kLong);
  drawn.vocabulary = unit_vectors(B, kVocabulary, K, generator);
  return drawn;
}

}  // namespace klab
