// SPDX-License-Identifier: Apache-2.0
// Properties of every mixer, tested over the whole registry and over head-wise hybrids; a new registry entry is
// included automatically. Float32 runs the kernels, float64 the composed forms.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/check/compare.h"
#include "mixers/support.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr int64_t kTime = 37;

std::vector<std::string> subjects() {
  std::vector<std::string> names = mixers().names();
  names.insert(names.end(), {"kda:2+attention:1", "mla+fox+gdn"});
  return names;
}

class EveryMixer : public testing::TestWithParam<std::tuple<std::string, torch::ScalarType>> {
 protected:
  EveryMixer() : dtype_(std::get<1>(GetParam())), mixer_(test_mixer(std::get<0>(GetParam()), dtype_)) {}

  Tensor input(int64_t B, int64_t T) { return torch::randn({B, T, kTestShape.width}, generator_).to(dtype_); }
  Tensor run(const Tensor& x, State& state) { return mixer_->forward(x, {}, &state); }
  State start(int64_t sequences) { return mixer_->initial_state(sequences, torch::kCPU); }

  // The same sums in two orders.
  void expect_close(const Tensor& actual, const Tensor& expected, const std::string& what) {
    const double allowed = dtype_ == torch::kDouble ? 1e-10 : 2e-4;
    const Comparison result = compare(actual.clone(), expected, Tolerance{.of_element = allowed, .of_rms = allowed});
    EXPECT_TRUE(result.pass) << what << ": " << result.message;
  }

  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(3);
  torch::ScalarType dtype_;
  std::shared_ptr<TokenMixer> mixer_;
};

class EveryMixerInFloat32 : public EveryMixer {};  // where float64 would test nothing new
class EveryMixerInFloat64 : public EveryMixer {};  // where float32 is not precise enough

TEST_P(EveryMixer, GivesTheSameInAnyCuts) {
  const torch::NoGradGuard no_grad;
  const Tensor x = input(2, kTime);
  const Tensor whole = mixer_->forward(x, {}, nullptr);
  for (const std::vector<int64_t>& cuts :
       {std::vector<int64_t>{kTime}, {1, kTime - 1}, {16, 21}, {5, 1, 1, 30}, std::vector<int64_t>(kTime, 1)}) {
    State state = start(2);
    std::vector<Tensor> parts;
    int64_t at = 0;
    for (const int64_t length : cuts) {
      parts.push_back(run(x.narrow(1, at, length), state));
      at += length;
    }
    expect_close(torch::cat(parts, 1), whole, std::to_string(cuts.size()) + " cuts");
  }
}

// Long enough for blocked code: growing caches, latent attention over a cache, queries with forget gates.
TEST_P(EveryMixerInFloat32, GivesTheSameInLongCuts) {
  const torch::NoGradGuard no_grad;
  const Tensor x = input(1, 700);
  const Tensor whole = mixer_->forward(x, {}, nullptr);
  State state = start(1);
  std::vector<Tensor> parts;
  int64_t at = 0;
  for (const int64_t length : {130, 300, 64, 65, 3, 137, 1}) {
    parts.push_back(run(x.narrow(1, at, length), state));
    at += length;
  }
  expect_close(torch::cat(parts, 1), whole, "long cuts");
  EXPECT_EQ(state.bytes(), mixer_->state_bytes(700));
}

TEST_P(EveryMixer, KeepsPackedSequencesApartForwardAndBackward) {
  const std::vector<int64_t> offsets = {0, 5, 6, 22, kTime};
  Tensor packed = input(1, kTime).requires_grad_();
  const Tensor y = mixer_->forward(packed, {torch::tensor(offsets)}, nullptr);
  const Tensor weights = torch::randn(y.sizes(), generator_).to(dtype_);
  (y * weights).sum().backward();
  std::map<std::string, Tensor> of_packed;
  for (const auto& item : mixer_->named_parameters()) of_packed[item.key()] = item.value().grad().clone();
  mixer_->zero_grad();

  const Tensor separate = packed.detach().clone().requires_grad_();
  std::vector<Tensor> parts;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    parts.push_back(mixer_->forward(separate.narrow(1, offsets[i], offsets[i + 1] - offsets[i]), {}, nullptr));
  }
  const Tensor expected = torch::cat(parts, 1);
  (expected * weights).sum().backward();
  expect_close(y.detach(), expected.detach(), "outputs");
  expect_close(packed.grad(), separate.grad(), "gradient of x");
  for (const auto& item : mixer_->named_parameters()) {
    expect_close(of_packed.at(item.key()), item.value().grad(), "gradient of " + item.key());
  }
}

// Packed prompts of different lengths, then decode with one row each, as in a server.
TEST_P(EveryMixer, ContinuesPackedSequencesAsRows) {
  const torch::NoGradGuard no_grad;
  const std::vector<int64_t> lengths = {4, 1, 13};
  const Tensor prompts = input(1, 18), next = input(3, 6);
  State state = start(3);
  const Tensor first = mixer_->forward(prompts, {torch::tensor({0, 4, 5, 18})}, &state);
  const Tensor second = run(next.narrow(1, 0, 1), state), third = run(next.narrow(1, 1, 5), state);
  int64_t at = 0;
  for (int64_t i = 0; i < 3; ++i) {
    const int64_t length = lengths[static_cast<size_t>(i)];
    const Tensor alone =
        mixer_->forward(torch::cat({prompts.narrow(1, at, length), next.narrow(0, i, 1)}, 1), {}, nullptr);
    expect_close(first.narrow(1, at, length), alone.narrow(1, 0, length), "prompt");
    expect_close(torch::cat({second, third}, 1).narrow(0, i, 1), alone.narrow(1, length, 6), "continuation");
    at += length;
  }
}

TEST_P(EveryMixer, RestoresASnapshot) {
  const torch::NoGradGuard no_grad;
  const Tensor x = input(1, 12), y = input(1, 9);
  State state = start(1);
  run(x, state);
  State snapshot = state.clone();
  const Tensor first = run(y, state);
  run(input(1, 4), state);  // advances the state
  EXPECT_TRUE(torch::equal(run(y, snapshot), first));
}

TEST_P(EveryMixer, FollowsReorderedRows) {
  const torch::NoGradGuard no_grad;
  const Tensor x = input(3, 9), y = input(3, 4);
  State state = start(3);
  run(x, state);
  state.reorder(torch::tensor({2, 0, 2, 1}));  // beam search: drops and duplicates
  const Tensor rows = torch::tensor({2, 0, 2, 1});
  const Tensor again = y.index_select(0, torch::tensor({0, 1, 2, 0}));
  const Tensor whole = mixer_->forward(torch::cat({x.index_select(0, rows), again}, 1), {}, nullptr);
  expect_close(run(again, state), whole.narrow(1, 9, 4), "after reordering");
  EXPECT_THROW(state.reorder(torch::tensor({4})), UsageError);
}

TEST_P(EveryMixer, SavesAndLoadsItsState) {
  const torch::NoGradGuard no_grad;
  State state = start(2);
  run(input(2, 11), state);
  std::map<std::string, Tensor> saved;
  state.put(saved, "state.");
  for (auto& [name, tensor] : saved) tensor = tensor.clone();  // like a file
  State loaded = start(2);
  loaded.take(saved, "state.");
  const Tensor y = input(2, 3);
  EXPECT_TRUE(torch::equal(run(y, loaded), run(y, state)));

  auto missing = saved;
  missing.erase(missing.begin());
  State untouched = start(2);
  EXPECT_THROW(untouched.take(missing, "state."), Error);
}

TEST_P(EveryMixer, LooksAtNoLaterToken) {
  const torch::NoGradGuard no_grad;
  const Tensor x = input(1, kTime);
  Tensor changed = x.clone();
  changed.narrow(1, 20, kTime - 20).fill_(3);
  const Tensor before = mixer_->forward(x, {}, nullptr), after = mixer_->forward(changed, {}, nullptr);
  expect_close(after.narrow(1, 0, 20), before.narrow(1, 0, 20), "past");
  EXPECT_FALSE(torch::equal(after.narrow(1, 20, kTime - 20), before.narrow(1, 20, kTime - 20)));
}

TEST_P(EveryMixer, HoldsTheBytesThatItStates) {
  const torch::NoGradGuard no_grad;
  State state = start(1);
  EXPECT_EQ(state.bytes(), mixer_->state_bytes(0));
  for (int64_t tokens = 0; tokens < 300; tokens += 75) {
    run(input(1, 75), state);
    EXPECT_EQ(state.bytes(), mixer_->state_bytes(tokens + 75));
  }
}

std::vector<const void*> cache_memory(const State& state) {
  std::vector<const void*> memory;
  for (const auto& [name, cache] : state.caches) memory.push_back(cache.data_ptr());
  for (const State& part : state.parts) {
    for (const void* address : cache_memory(part)) memory.push_back(address);
  }
  return memory;
}

TEST_P(EveryMixer, GrowsItsCachesInPlace) {
  const torch::NoGradGuard no_grad;
  State state = start(2);
  run(input(2, 1), state);
  const auto before = cache_memory(state);
  for (int64_t t = 1; t < kCacheBlock; ++t) run(input(2, 1), state);
  EXPECT_EQ(cache_memory(state), before);
}

TEST_P(EveryMixer, RefusesAStateOfAnotherNumberOfSequences) {
  const torch::NoGradGuard no_grad;
  State state = start(2);
  EXPECT_THROW(run(input(3, 4), state), UsageError);
  EXPECT_THROW(mixer_->forward(input(1, 4), {torch::tensor({0, 1, 2, 4})}, &state), UsageError);
}

TEST_P(EveryMixer, ReachesEveryParameterWithAGradient) {
  (mixer_->forward(input(2, kTime), {}, nullptr).square()).sum().backward();
  for (const auto& item : mixer_->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_TRUE(torch::isfinite(item.value().grad()).all().item<bool>()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
  }
}

TEST_P(EveryMixerInFloat64, DifferentiatesAsFiniteDifferencesDo) {
  Tensor x = input(2, 9).requires_grad_();
  const Tensor weights = torch::randn(x.sizes(), generator_).to(dtype_);
  const auto loss = [&] { return (mixer_->forward(x, {}, nullptr) * weights).sum(); };
  loss().backward();
  std::map<std::string, Tensor> leaves{{"x", x}};
  for (const auto& item : mixer_->named_parameters()) leaves[item.key()] = item.value();
  constexpr double kStep = 1e-6;
  for (auto& [name, leaf] : leaves) {
    const torch::NoGradGuard no_grad;
    const Tensor direction = torch::randn(leaf.sizes(), generator_).to(dtype_), before = leaf.clone();
    leaf.copy_(before + kStep * direction);
    const double above = loss().item<double>();
    leaf.copy_(before - kStep * direction);
    const double below = loss().item<double>();
    leaf.copy_(before);
    const double slope = (above - below) / (2 * kStep), gradient = (leaf.grad() * direction).sum().item<double>();
    EXPECT_NEAR(gradient, slope, 1e-6 * (1 + std::abs(slope))) << name;
  }
}

// The kernels against the composed forms, layer by layer.
TEST_P(EveryMixerInFloat32, GivesInFloat32WhatFloat64Gives) {
  const auto wide = test_mixer(std::get<0>(GetParam()), torch::kDouble);
  const Tensor x = input(2, kTime).requires_grad_(), x_wide = x.detach().to(torch::kDouble).requires_grad_();
  const Tensor weights = torch::randn(x.sizes(), generator_);
  const Tensor y = mixer_->forward(x, {}, nullptr), y_wide = wide->forward(x_wide, {}, nullptr);
  (y * weights).sum().backward();
  (y_wide * weights).sum().backward();
  expect_close(y.detach(), y_wide.detach(), "outputs");
  expect_close(x.grad(), x_wide.grad(), "gradient of x");
  const auto expected = wide->named_parameters();
  for (const auto& item : mixer_->named_parameters()) {
    expect_close(item.value().grad(), expected[item.key()].grad(), "gradient of " + item.key());
  }
}

TEST_P(EveryMixerInFloat32, RunsInBfloat16) {
  const torch::NoGradGuard no_grad;
  const Tensor x = input(2, kTime).to(torch::kBFloat16);
  const auto narrow = test_mixer(std::get<0>(GetParam()), torch::kBFloat16);
  const auto wide = test_mixer(std::get<0>(GetParam()), torch::kBFloat16);
  wide->to(torch::kFloat);
  State state = narrow->initial_state(2, torch::kCPU);
  const Tensor first = narrow->forward(x.narrow(1, 0, 30), {}, &state);
  const Tensor y = torch::cat({first, narrow->forward(x.narrow(1, 30, 7), {}, &state)}, 1);
  const Tensor expected = wide->forward(x.to(torch::kFloat), {}, nullptr);
  EXPECT_EQ(y.scalar_type(), torch::kBFloat16);
  const double error = (y.to(torch::kFloat) - expected).norm().item<double>() / expected.norm().item<double>();
  EXPECT_LT(error, 0.05);  // roundings of 2^-9 through a whole layer
}

TEST_P(EveryMixer, StatesCostsThatGrowWithLength) {
  EXPECT_GT(mixer_->flops(1), 0);
  EXPECT_GT(mixer_->flops(200), mixer_->flops(100));
  EXPECT_GT(mixer_->decode_flops(10), 0);
}

std::string name_of(const testing::TestParamInfo<EveryMixer::ParamType>& info) {
  std::string name = std::get<0>(info.param);
  for (char& c : name) c = std::isalnum(c) ? c : '_';
  return name + (std::get<1>(info.param) == torch::kDouble ? "_float64" : "_float32");
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryMixer,
                         testing::Combine(testing::ValuesIn(subjects()),
                                          testing::Values(torch::kFloat, torch::kDouble)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Registry, EveryMixerInFloat32,
                         testing::Combine(testing::ValuesIn(subjects()), testing::Values(torch::kFloat)), name_of);
INSTANTIATE_TEST_SUITE_P(Registry, EveryMixerInFloat64,
                         testing::Combine(testing::ValuesIn(subjects()), testing::Values(torch::kDouble)), name_of);

}  // namespace
}  // namespace klab
