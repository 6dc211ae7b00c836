// SPDX-License-Identifier: Apache-2.0
// Softmax attention and latent attention against plain loops, and further guarantees of the latent attention CPU
// kernel.
#include "kernels/attention/attention.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <torch/nn/module.h>

#include "core/check/matrix.h"
#include "kernels/attention/latent_attention.h"
#include "kernels/attention/rotary.h"
#include "kernels/common/support.h"

namespace klab {
namespace {

using at::Tensor;
using kernels::Implementation;

Tensor drawn(at::IntArrayRef shape, uint64_t seed) {
  return torch::randn(shape, at::make_generator<at::CPUGeneratorImpl>(seed)).to(at::kDouble);
}

// The definition in float64, with scalar loops.
Tensor plain_loops(const kernels::AttentionInputs& in, double scale) {
  const auto B = in.q.size(0), T = in.q.size(1), H = in.q.size(2), K = in.q.size(3);
  const auto S = in.k.size(1), V = in.v.size(3), group = H / in.k.size(2);
  const auto q = in.q.accessor<double, 4>(), k = in.k.accessor<double, 4>(), v = in.v.accessor<double, 4>();
  Tensor out = at::zeros({B, T, H, V}, at::kDouble);
  auto o = out.accessor<double, 4>();
  for (int64_t b = 0; b < B; ++b) {
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t h = 0; h < H; ++h) {
        const int64_t position = S - T + t;
        double sum = 0, faded = 0;
        for (int64_t j = position; j >= 0 && j > position - in.window.value_or(S); --j) {
          double logit = 0;
          for (int64_t d = 0; d < K; ++d) logit += q[b][t][h][d] * k[b][j][h / group][d];
          const double weight = std::exp(scale * logit + faded);
          sum += weight;
          for (int64_t d = 0; d < V; ++d) o[b][t][h][d] += weight * v[b][j][h / group][d];
          if (in.g.defined()) faded += in.g[b][j][h].item<double>();
        }
        for (int64_t d = 0; d < V; ++d) o[b][t][h][d] /= sum;
      }
    }
  }
  return out;
}

struct Shape {
  int64_t B, T, past, H, HK, K, V;
};

TEST(Attention, IsWhatPlainLoopsGive) {
  for (const Shape& s :
       {Shape{2, 7, 0, 3, 3, 5, 5}, {1, 9, 4, 4, 2, 6, 3}, {2, 1, 11, 4, 1, 3, 8}, {1, 5, 300, 2, 2, 4, 4}}) {
    const Tensor q = drawn({s.B, s.T, s.H, s.K}, 1), k = drawn({s.B, s.past + s.T, s.HK, s.K}, 2);
    const Tensor v = drawn({s.B, s.past + s.T, s.HK, s.V}, 3), g = -drawn({s.B, s.past + s.T, s.H}, 4).abs();
    for (const Tensor& forget : {Tensor(), g}) {
      const kernels::AttentionInputs in{q, k, v, forget, 0.3};
      const Tensor expected = plain_loops(in, 0.3);
      for (const Implementation implementation : kernels::attention_implementations()) {
        expect_close(to_string(implementation), kernels::attention(in, implementation), expected, tight());
      }
    }
  }
}

// More queries than a block, and a gate of -1000, which erases all earlier keys.
TEST(Attention, ForgetGatesReachAcrossBlocksAndResets) {
  const Tensor q = drawn({1, 600, 1, 4}, 1), k = drawn({1, 600, 1, 4}, 2), v = drawn({1, 600, 1, 4}, 3);
  Tensor g = -0.02 * drawn({1, 600, 1}, 4).abs();
  g.select(1, 300).fill_(-1000);
  const kernels::AttentionInputs in{q, k, v, g, 0.5};
  const Tensor o = kernels::attention(in);
  expect_close("blocks", o, plain_loops(in, 0.5), tight());
  Tensor other = v.clone();
  other.narrow(1, 0, 300).fill_(7);
  const Tensor after = kernels::attention({q, k, other, g, 0.5});
  EXPECT_TRUE(torch::equal(after.narrow(1, 300, 300), o.narrow(1, 300, 300)));  // no influence of earlier values
}

// Windows of one key, within a block of queries, over several, and longer than the sequence.
TEST(Attention, AWindowHidesEarlierKeys) {
  for (const Shape& s :
       {Shape{2, 7, 0, 3, 3, 5, 5}, {1, 9, 4, 4, 2, 6, 3}, {2, 1, 11, 4, 1, 3, 8}, {1, 300, 50, 2, 1, 4, 4}}) {
    const Tensor q = drawn({s.B, s.T, s.H, s.K}, 1), k = drawn({s.B, s.past + s.T, s.HK, s.K}, 2);
    const Tensor v = drawn({s.B, s.past + s.T, s.HK, s.V}, 3);
    for (const int64_t window : {1, 3, 8, 130, 1000}) {
      kernels::AttentionInputs in{q, k, v, {}, 0.3, window};
      const Tensor expected = plain_loops(in, 0.3);
      for (const Implementation implementation : kernels::attention_implementations()) {
        expect_close(to_string(implementation), kernels::attention(in, implementation), expected, tight());
      }
      const Tensor weights = kernels::attention_weights(in);
      EXPECT_EQ(weights.sizes(), (std::vector<int64_t>{s.B, s.H, s.T, s.past + s.T}));
      EXPECT_EQ((weights > 0).sum(-1).max().item<int64_t>(), std::min(window, s.past + s.T));
    }
  }
}

TEST(Attention, PartsJoinToTheWhole) {
  const Tensor q = drawn({2, 6, 4, 8}, 1), k = drawn({2, 26, 2, 8}, 2), v = drawn({2, 26, 2, 5}, 3);
  const auto keys = [&](int64_t from, int64_t count) {
    return kernels::AttentionInputs{q, k.narrow(1, from, count), v.narrow(1, from, count)};
  };
  const auto joined = kernels::join(
      kernels::join(kernels::partial_attention(keys(20, 6), true), kernels::partial_attention(keys(0, 7), false)),
      kernels::partial_attention(keys(7, 13), false));
  expect_close("joined", joined.o, kernels::attention({q, k, v}), tight());
}

TEST(Attention, RefusesWrongArgumentsByName) {
  const Tensor q = at::ones({1, 4, 4, 6}), k = at::ones({1, 4, 2, 6});
  expect_refused("attention", "q is missing", [&] { kernels::attention({{}, k, k}); });
  expect_refused("attention", "k has shape", [&] { kernels::attention({q, at::ones({1, 4, 2, 5}), k}); });
  expect_refused("attention", "v has shape", [&] { kernels::attention({q, k, at::ones({1, 5, 2, 6})}); });
  expect_refused("attention", "q has 4 heads", [&] {
    kernels::attention({q, at::ones({1, 4, 3, 6}), at::ones({1, 4, 3, 6})});
  });
  expect_refused("attention", "4 queries", [&] { kernels::attention({q, k.narrow(1, 0, 3), k.narrow(1, 0, 3)}); });
  expect_refused("attention", "g has shape", [&] { kernels::attention({q, k, k, at::ones({1, 4, 2})}); });
  expect_refused("attention", "window is 0", [&] { kernels::attention({q, k, k, {}, {}, 0}); });
  expect_refused("attention", "window excludes", [&] { kernels::attention({q, k, k, at::ones({1, 4, 4}), {}, 2}); });
  EXPECT_THROW(kernels::attention({q, k, k}, Implementation::cuda), c10::NotImplementedError);
}

TEST(Rotary, TurnsPairsByTheirPositions) {
  const Tensor x = drawn({1, 3, 2, 6}, 1), positions = torch::tensor({{0, 5, 1'000'000}});
  const Tensor y = kernels::rotary(x, positions, 100);
  Tensor expected = x.clone();
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t i = 0; i < 3; ++i) {
        const double angle = positions[0][t].item<double>() * std::pow(100.0, -static_cast<double>(i) / 3);
        const double a = x[0][t][h][i].item<double>(), b = x[0][t][h][i + 3].item<double>();
        expected[0][t][h][i] = a * std::cos(angle) - b * std::sin(angle);
        expected[0][t][h][i + 3] = a * std::sin(angle) + b * std::cos(angle);
      }
    }
  }
  expect_close("rotated", y, expected, tight(1e-9));  // limited by the rounding of angles of a million radians
  expect_close("float32", kernels::rotary(x.to(at::kFloat), positions, 100), expected, tight(1e-6));
  expect_refused("rotary", "K = 5", [&] { kernels::rotary(at::ones({1, 3, 1, 5}), positions); });
  expect_refused("rotary", "positions", [&] { kernels::rotary(x, positions.narrow(1, 0, 2)); });
}

// --- Latent attention, absorbed form ------------------------------------------------------------------------------

struct Latent {
  Tensor q, cache;
  int64_t value_dim;
  Tensor run(Implementation implementation = Implementation::cpu) const {
    const at::NoGradGuard no_grad;
    return kernels::latent_attention({q, cache, value_dim, 0.2}, implementation);
  }
};

Latent latent(int64_t B, int64_t T, int64_t H, int64_t S, int64_t R, int64_t P) {
  return {drawn({B, T, H, R + P}, 1).to(at::kFloat), drawn({B, S, R + P}, 2).to(at::kFloat), R};
}

TEST(LatentAttention, IsWhatPlainLoopsGive) {
  for (const auto& [T, S] : {std::pair{1, 40}, {3, 40}, {40, 40}, {2, 2100}}) {
    const Latent in = latent(2, T, 3, S, 9, 4);
    const Tensor keys = in.cache.to(at::kDouble).unsqueeze(2);
    const Tensor expected = plain_loops({in.q.to(at::kDouble), keys, keys.narrow(3, 0, 9)}, 0.2);
    for (const Implementation implementation : on_cpu(kernels::latent_attention_implementations())) {
      expect_close(to_string(implementation), in.run(implementation), expected,
                   derived_tolerance({at::kFloat, at::kFloat, S, 4}));
    }
  }
}

TEST(LatentAttention, TheNumberOfThreadsDoesNotChangeABit) {
  const int before = at::get_num_threads();
  for (const auto& in : {latent(1, 1, 5, 3000, 32, 16), latent(3, 4, 20, 200, 20, 6), latent(40, 1, 64, 99, 16, 8)}) {
    at::set_num_threads(1);
    const Tensor expected = in.run();
    for (const int count : {2, 7}) {
      at::set_num_threads(count);
      EXPECT_TRUE(torch::equal(in.run(), expected)) << count << " threads";
    }
  }
  at::set_num_threads(before);
}

TEST(LatentAttention, EveryInstructionSetHoldsTheDerivedTolerance) {
  int64_t tried = 0;
  for (const int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SSSE3, HWY_NEON}) {
    if ((hwy::SupportedTargets() & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    for (const CheckRow& row : run_matrix({.operators = "latent_attention", .implementation = "cpu"})) {
      EXPECT_TRUE(row.pass) << hwy::TargetName(target) << " " << row.dtype << " " << row.workload << "\n"
                            << row.message;
      ++tried;
    }
    hwy::SetSupportedTargetsForTest(0);
  }
  EXPECT_GT(tried, 0);
}

// A cache may be a view of a larger buffer, at any address.
TEST(LatentAttention, RowsMayBeAnywhereInMemory) {
  const Latent in = latent(2, 2, 3, 130, 24, 8);
  const Tensor expected = in.run();
  const Tensor roomy = at::full({2, 400, 32}, std::numeric_limits<float>::quiet_NaN());
  roomy.narrow(1, 0, 130).copy_(in.cache);
  EXPECT_TRUE(torch::equal(Latent{in.q, roomy.narrow(1, 0, 130), 24}.run(), expected));
  const Tensor odd = at::full({2 * 130 * 33 + 1}, std::numeric_limits<float>::quiet_NaN());
  const Tensor shifted = odd.narrow(0, 1, int64_t{2} * 130 * 33).view({2, 130, 33}).narrow(2, 0, 32);
  shifted.copy_(in.cache);
  EXPECT_TRUE(torch::equal(Latent{in.q, shifted, 24}.run(), expected));
}

// With v = identity, plain_loops() returns the weights.
TEST(AttentionWeights, AreThoseOfPlainLoops) {
  constexpr int64_t B = 2, T = 5, S = 8, H = 4, HK = 2, K = 3;
  for (const bool gated : {false, true}) {
    kernels::AttentionInputs in{drawn({B, T, H, K}, 1), drawn({B, S, HK, K}, 2), {}, {}, 0.7};
    in.v = torch::eye(S, at::kDouble).view({1, S, 1, S}).expand({B, S, HK, S}).contiguous();
    if (gated) in.g = -drawn({B, S, H}, 3).abs();
    const Tensor weights = kernels::attention_weights(in);  // [B, H, T, S]
    EXPECT_TRUE(at::allclose(weights, plain_loops(in, 0.7).transpose(1, 2), 0, 1e-12)) << "gated: " << gated;
    EXPECT_EQ(weights.triu(S - T + 1).abs().max().item<double>(), 0);
  }
}

TEST(LatentAttention, StaysFiniteOnHugeLogitsAndShowsNaN) {
  Latent in = latent(1, 1, 2, 200, 16, 4);
  in.q = in.q * 1e4;
  EXPECT_TRUE(at::isfinite(in.run()).all().item<bool>());
  in.cache[0][100][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(at::isnan(in.run()).any().item<bool>());
}

TEST(LatentAttention, RefusesWrongArgumentsByName) {
  const Latent in = latent(1, 2, 3, 10, 6, 2);
  const auto call = [&](const Tensor& q, const Tensor& cache, int64_t value_dim) {
    return [=] { kernels::latent_attention({q, cache, value_dim, 0.2}); };
  };
  expect_refused("latent_attention", "cache has shape", call(in.q, at::ones({1, 10, 7}), 6));
  expect_refused("latent_attention", "value_dim = 9", call(in.q, in.cache, 9));
  expect_refused("latent_attention", "2 queries", call(in.q, in.cache.narrow(1, 0, 1), 6));
  Tensor q = in.q.clone().requires_grad_();
  EXPECT_THROW(kernels::latent_attention({q, in.cache, 6, 0.2}, Implementation::cpu), c10::NotImplementedError);
  EXPECT_NO_THROW(kernels::latent_attention({q, in.cache, 6, 0.2}).sum().backward());  // the composed form
}

}  // namespace
}  // namespace klab
