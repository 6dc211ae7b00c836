// SPDX-License-Identifier: Apache-2.0
// The mixture of experts against its definition in float64.
#include "kernels/linear/experts.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <sys/mman.h>
#include <torch/nn/module.h>

#include <cmath>
#include <sstream>

#include "kernels/common/support.h"
#include "kernels/linear/linear.h"

namespace klab {
namespace {

using kernels::ExpertsInputs;
using kernels::ExpertTable;
using kernels::ExpertWeights;
using kernels::Implementation;

constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kChar};
constexpr Implementation kBoth[] = {Implementation::cpu, Implementation::reference};

ExpertWeights random_expert(int64_t M, int64_t D, at::ScalarType type) {
  ExpertWeights expert{at::randn({M, D}), at::randn({M, D}), at::randn({D, M})};
  const auto turn = [&](at::Tensor& weight, at::Tensor& scale) {
    weight = weight / std::sqrt(static_cast<double>(weight.size(1)));
    if (type != at::kChar) {
      weight = weight.to(type);
      return;
    }
    const auto [values, steps, squared_error, squared_sum] = kernels::quantise(weight);
    weight = values;
    scale = steps;
  };
  turn(expert.gate, expert.gate_scale);
  turn(expert.up, expert.up_scale);
  turn(expert.down, expert.down_scale);
  return expert;
}

std::vector<ExpertWeights> random_experts(int64_t count, int64_t M, int64_t D, at::ScalarType type) {
  std::vector<ExpertWeights> experts;
  for (int64_t e = 0; e < count; ++e) experts.push_back(random_expert(M, D, type));
  return experts;
}

at::Tensor exact(const at::Tensor& weight, const at::Tensor& scale) {
  const at::Tensor wide = weight.to(at::kDouble);
  return scale.defined() ? wide * scale.to(at::kDouble).unsqueeze(1) : wide;
}

// The definition in float64, independent of the operator's reference implementation.
at::Tensor exact_expert(const ExpertWeights& expert, const at::Tensor& x) {
  const at::Tensor g = at::matmul(exact(expert.gate, expert.gate_scale), x);
  const at::Tensor u = at::matmul(exact(expert.up, expert.up_scale), x);
  return at::matmul(exact(expert.down, expert.down_scale), g / (1 + at::exp(-g)) * u);
}

at::Tensor expected(const ExpertsInputs& in) {
  const at::Tensor x = in.x.to(at::kDouble);
  at::Tensor y = at::zeros_like(x);
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t j = 0; j < in.chosen.size(1); ++j) {
      const ExpertWeights& expert = in.table->expert(in.chosen[t][j].item<int64_t>());
      y[t] += in.weights[t][j].item<double>() * exact_expert(expert, x[t]);
    }
    if (in.table->shared() != nullptr) y[t] += exact_expert(*in.table->shared(), x[t]);
  }
  return y;
}

ExpertsInputs random_inputs(const ExpertTable& table, int64_t n, int64_t k, at::ScalarType dtype = at::kFloat) {
  std::vector<at::Tensor> chosen;
  for (int64_t t = 0; t < n; ++t) chosen.push_back(at::randperm(table.count(), at::kLong).narrow(0, 0, k));
  return {at::randn({n, table.width()}).to(dtype), at::stack(chosen), at::rand({n, k}), &table};
}

Tolerance tolerance_of(const ExpertsInputs& in, int64_t M) {
  const int64_t terms = in.table->width() + M + in.chosen.size(1) + 16;
  return derived_tolerance(
      {.sums = at::kFloat, .result = in.x.scalar_type(), .terms = terms, .elements = in.x.numel()});
}

TEST(Experts, AreTheirDefinition) {
  const Threads two(2);
  for (const auto& [n, k, E, D, M] : {std::tuple{1, 1, 1, 1, 1},
                                      {1, 8, 16, 100, 37},
                                      {3, 2, 4, 65, 16},
                                      {7, 3, 5, 33, 171},
                                      {20, 1, 1, 48, 65},
                                      {40, 2, 3, 17, 3}}) {
    for (const at::ScalarType type : kTypes) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
        for (const bool shared : {false, true}) {
          if (shared && D == 1) continue;  // a single element: cancellation could exceed the tolerance
          // A shared expert of another width and dtype.
          const ExpertTable table(random_experts(E, M, D, type),
                                  shared ? random_expert(2 * M + 1, D, at::kBFloat16) : ExpertWeights{});
          const ExpertsInputs in = random_inputs(table, n, k, dtype);
          const at::Tensor exact = expected(in);
          for (const Implementation implementation : kBoth) {
            std::ostringstream what;
            what << n << " tokens, " << k << " of " << E << ", " << D << " -> " << M << ", x " << dtype << ", weights "
                 << type << (shared ? ", shared, " : ", ") << to_string(implementation);
            expect_close(what.str(), kernels::experts(in, implementation), exact, tolerance_of(in, 2 * M + 1));
          }
          if (dtype != at::kFloat) continue;  // the composed form rounds intermediate results to x's dtype
          expect_close("composed", kernels::experts(in, Implementation::composed), exact,
                       tolerance_of(in, D + 2 * M + 1));
        }
      }
    }
  }
}

TEST(Experts, EveryInstructionSetIsRight) {
  const ExpertTable table(random_experts(4, 37, 65, at::kBFloat16), random_expert(20, 65, at::kChar));
  const ExpertsInputs in = random_inputs(table, 5, 3);
  for (const int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SSSE3, HWY_NEON}) {
    if ((hwy::SupportedTargets() & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    expect_close(hwy::TargetName(target), kernels::experts(in, Implementation::cpu), expected(in),
                 tolerance_of(in, 37));
    hwy::SetSupportedTargetsForTest(0);
  }
}

TEST(Experts, InFloat64ByTheDefinition) {
  const ExpertTable table({random_expert(5, 7, at::kDouble), random_expert(5, 7, at::kDouble)});
  const ExpertsInputs in = random_inputs(table, 3, 2, at::kDouble);
  expect_close("automatic", kernels::experts(in), expected(in), tight());
  EXPECT_THROW(kernels::experts(in, Implementation::cpu), c10::NotImplementedError);
}

TEST(Experts, TokensDoNotSeeEachOther) {
  const ExpertTable table(random_experts(6, 70, 100, at::kBFloat16), random_expert(30, 100, at::kBFloat16));
  const ExpertsInputs in = random_inputs(table, 23, 3);
  const at::Tensor together = kernels::experts(in, Implementation::cpu);
  for (int64_t t = 0; t < 23; ++t) {
    const ExpertsInputs one{in.x.narrow(0, t, 1), in.chosen.narrow(0, t, 1), in.weights.narrow(0, t, 1), &table};
    EXPECT_TRUE(at::equal(kernels::experts(one, Implementation::cpu), together.narrow(0, t, 1))) << t;
  }
}

TEST(Experts, TheNumberOfThreadsDoesNotChangeABit) {
  for (const at::ScalarType type : kTypes) {
    const ExpertTable table(random_experts(6, 200, 300, type), random_expert(131, 300, type));
    const ExpertsInputs in = random_inputs(table, 4, 3, at::kBFloat16);
    const Threads one(1);
    const at::Tensor alone = kernels::experts(in, Implementation::cpu);
    for (const int count : {2, 7}) {
      const Threads more(count);
      EXPECT_TRUE(at::equal(kernels::experts(in, Implementation::cpu), alone)) << type << " on " << count;
    }
  }
}

// The order of a token's experts does not matter, and an expert may occur twice.
TEST(Experts, MayBeNamedInAnyOrderAndTwice) {
  const ExpertTable table(random_experts(6, 20, 30, at::kFloat));
  ExpertsInputs in = random_inputs(table, 4, 3);
  const at::Tensor y = kernels::experts(in, Implementation::cpu);
  in.chosen = in.chosen.flip(1);
  in.weights = in.weights.flip(1);
  EXPECT_TRUE(at::equal(kernels::experts(in, Implementation::cpu), y));
  in.chosen = at::full({4, 2}, 5, at::kLong);
  in.weights = at::rand({4, 2});
  expect_close("twice", kernels::experts(in, Implementation::cpu), expected(in), tolerance_of(in, 20));
}

TEST(Experts, NoTokensOrNoExpertsOfTheirOwn) {
  const ExpertTable table(random_experts(2, 5, 6, at::kFloat), random_expert(5, 6, at::kFloat));
  for (const Implementation implementation : kBoth) {
    const ExpertsInputs none{at::empty({0, 6}), at::empty({0, 2}, at::kLong), at::empty({0, 2}), &table};
    EXPECT_EQ(kernels::experts(none, implementation).sizes(), at::IntArrayRef({0, 6}));
    const ExpertsInputs shared{at::randn({3, 6}), at::empty({3, 0}, at::kLong), at::empty({3, 0}), &table};
    expect_close("shared alone", kernels::experts(shared, implementation), expected(shared), tolerance_of(shared, 5));
  }
}

// The unchosen expert has unreadable memory, so any access by the table or the kernel would crash.
TEST(Experts, DoesNotReadWhatNobodyChose) {
  const int64_t M = 32, D = 64, bytes = M * D * 4;
  void* forbidden = mmap(nullptr, static_cast<size_t>(bytes), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(forbidden, MAP_FAILED);
  const auto unreadable = [&](int64_t rows, int64_t columns) {
    return at::from_blob(forbidden, {rows, columns}, at::TensorOptions(at::kFloat));
  };
  std::vector<ExpertWeights> experts = random_experts(3, M, D, at::kFloat);
  experts[1] = {unreadable(M, D), unreadable(M, D), unreadable(D, M)};
  {
    const ExpertTable table(experts);
    const ExpertsInputs in{at::randn({2, D}), at::tensor({0, 2, 2, 0}, at::kLong).view({2, 2}), at::rand({2, 2}),
                           &table};
    expect_close("y", kernels::experts(in, Implementation::cpu), expected(in), tolerance_of(in, M));
  }
  munmap(forbidden, static_cast<size_t>(bytes));
}

// Workspaces, results and scratch memory may contain values of earlier calls.
TEST(Experts, MemoryOfEarlierCallsDoesNotMatter) {
  const ExpertTable table(random_experts(4, 37, 43, at::kBFloat16), random_expert(9, 43, at::kFloat));
  const ExpertsInputs in = random_inputs(table, 5, 2);
  const at::Tensor y = kernels::experts(in, Implementation::cpu);
  ExpertsInputs spoilt = in;
  spoilt.x = at::full_like(in.x, std::nan(""));
  for (int i = 0; i < 3; ++i) kernels::experts(spoilt, Implementation::cpu);
  EXPECT_TRUE(at::equal(kernels::experts(in, Implementation::cpu), y));
}

TEST(Experts, NaNReachesItsTokenAlone) {
  const ExpertTable table(random_experts(4, 37, 43, at::kChar), random_expert(9, 43, at::kFloat));
  for (const Implementation implementation : kBoth) {
    ExpertsInputs in = random_inputs(table, 5, 2);
    in.x[3][42] = std::nan("");
    const at::Tensor y = kernels::experts(in, implementation).isnan();
    EXPECT_TRUE(y[3].all().item<bool>());
    EXPECT_EQ(y.sum().item<int64_t>(), 43);
  }
}

TEST(Experts, TakesTensorsWithGaps) {
  std::vector<ExpertWeights> experts = random_experts(3, 10, 20, at::kBFloat16);
  for (ExpertWeights& expert : experts) expert.gate = at::cat({expert.gate, expert.up}, 1).narrow(1, 0, 20);
  const ExpertTable table(experts);
  ExpertsInputs in = random_inputs(table, 4, 2);
  const at::Tensor y = kernels::experts(in, Implementation::cpu);
  expect_close("gaps in gate", y, expected(in), tolerance_of(in, 10));
  in.x = at::stack({in.x, in.x + 1}, -1).select(-1, 0);
  in.chosen = in.chosen.t().contiguous().t();
  in.weights = in.weights.t().contiguous().t();
  EXPECT_TRUE(at::equal(kernels::experts(in, Implementation::cpu), y));
}

TEST(Experts, AGradientGoesToTheReference) {
  const ExpertTable table(random_experts(3, 4, 5, at::kFloat));
  ExpertsInputs in = random_inputs(table, 2, 2);
  in.x.requires_grad_();
  EXPECT_THROW(kernels::experts(in, Implementation::cpu), c10::NotImplementedError);
  const at::Tensor y = kernels::experts(in);
  EXPECT_TRUE(y.requires_grad());
  EXPECT_THROW(kernels::experts(in, Implementation::chunk), c10::NotImplementedError);
  EXPECT_THROW(kernels::experts(in, Implementation::composed), c10::NotImplementedError);
  EXPECT_EQ(kernels::experts_implementations().size(), 3U);
}

TEST(Experts, RefusesWrongArgumentsByName) {
  const std::vector<ExpertWeights> right = random_experts(3, 4, 5, at::kChar);
  const auto table_with = [&](auto&& spoil) {
    std::vector<ExpertWeights> experts = right;
    spoil(experts[2]);
    return ExpertTable(experts);
  };
  expect_refused("experts", "experts is empty", [] { ExpertTable({}); });
  expect_refused("experts", "experts[2].up has shape",
                 [&] { table_with([](ExpertWeights& e) { e.up = e.up.narrow(0, 0, 3); }); });
  expect_refused("experts", "experts[2].down has shape",
                 [&] { table_with([](ExpertWeights& e) { e.down = e.down.t(); }); });
  expect_refused("experts", "experts[2].gate_scale is missing",
                 [&] { table_with([](ExpertWeights& e) { e.gate_scale = at::Tensor(); }); });
  expect_refused("experts", "experts[2].gate is missing",
                 [&] { table_with([](ExpertWeights& e) { e.gate = at::Tensor(); }); });
  expect_refused("experts", "shared.gate has shape", [&] { ExpertTable(right, random_expert(4, 6, at::kFloat)); });
  expect_refused("experts", "shared.up is missing", [&] { ExpertTable(right, {at::ones({4, 5}), {}, {}}); });

  const ExpertTable table(right);
  const ExpertsInputs in = random_inputs(table, 2, 2);
  const auto refused = [&](const std::string& argument, auto&& spoil) {
    ExpertsInputs wrong = in;
    spoil(wrong);
    expect_refused("experts", argument, [&] { kernels::experts(wrong); });
  };
  refused("table is missing", [](ExpertsInputs& wrong) { wrong.table = nullptr; });
  refused("x is missing", [](ExpertsInputs& wrong) { wrong.x = at::Tensor(); });
  refused("x has shape", [](ExpertsInputs& wrong) { wrong.x = at::ones({2, 6}); });
  refused("chosen is missing", [](ExpertsInputs& wrong) { wrong.chosen = at::Tensor(); });
  refused("chosen has dtype", [](ExpertsInputs& wrong) { wrong.chosen = wrong.chosen.to(at::kInt); });
  refused("chosen has shape", [](ExpertsInputs& wrong) { wrong.chosen = wrong.chosen.narrow(0, 0, 1); });
  refused("chosen has expert 3", [](ExpertsInputs& wrong) { wrong.chosen = at::full({2, 2}, 3, at::kLong); });
  refused("chosen has expert -1", [](ExpertsInputs& wrong) { wrong.chosen = at::full({2, 2}, -1, at::kLong); });
  refused("weights is missing", [](ExpertsInputs& wrong) { wrong.weights = at::Tensor(); });
  refused("weights has shape", [](ExpertsInputs& wrong) { wrong.weights = at::ones({2, 3}); });
}

}  // namespace
}  // namespace klab
