// SPDX-License-Identifier: Apache-2.0
#include "core/train/muon.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/model/layers.h"
#include "core/train/make_optimizer.h"
#include "core/train/muon_reference.h"

namespace klab {
namespace {

using torch::Tensor;

constexpr double kLr = 0.02, kDecay = 0.3;

// Linear maps of these shapes [rows, cols], of which some are each other's transpose, and a norm.
struct Linears : torch::nn::Module {
  Linears() {
    for (const auto& [out, in] : shapes) {
      linears.push_back(register_module("linear" + std::to_string(linears.size()), Linear(in, out)));
    }
    register_module("norm", norm);
    const torch::NoGradGuard no_grad;
    for (const Tensor& parameter : parameters()) parameter.normal_();
  }

  void draw_gradients() {
    for (Tensor& parameter : parameters()) parameter.mutable_grad() = torch::randn_like(parameter.detach());
  }

  std::vector<std::pair<int64_t, int64_t>> shapes = {{24, 8},  {8, 24},  {24, 8}, {16, 16},
                                                     {16, 16}, {12, 16}, {1, 16}, {16, 1}};
  std::vector<Linear> linears;
  RmsNorm norm = RmsNorm(8, 1e-5);
};

std::unique_ptr<Optimizer> muon_of(const Linears& module, double momentum = 0.95) {
  TrainConfig config;
  config.optimizer = "muon";
  config.adamw.weight_decay = kDecay;
  config.momentum = momentum;
  return make_optimizer(module, config);
}

// One step's error in O is about 1e-4 (newton_schulz_test.cpp) times lr 0.2 sqrt(24); ten steps add up.
void expect_follows_the_paper(int steps, double tolerance) {
  Linears module;
  const auto muon = muon_of(module);
  std::vector<ReferenceMuon> references;
  for (const Linear& linear : module.linears) references.push_back({linear->weight.detach().to(torch::kDouble)});
  for (int step = 0; step < steps; ++step) {
    module.draw_gradients();
    for (size_t i = 0; i < references.size(); ++i) references[i].step(module.linears[i]->weight.grad(), kLr, kDecay);
    muon->step(kLr);
  }
  for (size_t i = 0; i < references.size(); ++i) {
    const Tensor error = (module.linears[i]->weight - references[i].weight).abs().max();
    EXPECT_LT(error.item<double>(), tolerance) << "matrix " << i << " after " << steps << " steps";
  }
}

TEST(Muon, FollowsThePaper) {
  expect_follows_the_paper(1, 5e-6);
  expect_follows_the_paper(10, 2e-5);
}

TEST(Muon, GivesTheOtherParametersToAdamW) {
  Linears module, twin;
  {
    const torch::NoGradGuard no_grad;
    twin.norm->weight.copy_(module.norm->weight);
  }
  const auto muon = muon_of(module);
  AdamW adamw({{"norm.weight", twin.norm->weight}}, {});
  for (int step = 0; step < 3; ++step) {
    module.draw_gradients();
    twin.norm->weight.mutable_grad() = module.norm->weight.grad();
    muon->step(kLr);
    adamw.step(kLr);
  }
  EXPECT_TRUE(torch::equal(module.norm->weight, twin.norm->weight));
  size_t momenta = 0, moments = 0;
  for (const auto& [name, tensor] : muon->state()) {
    momenta += name.starts_with("muon.momentum.linear") ? 1 : 0;
    moments += name.starts_with("adamw.") ? 1 : 0;
  }
  EXPECT_EQ(momenta, module.linears.size());
  EXPECT_EQ(moments, 3u) << "two moments and the steps of the norm";
}

TEST(Muon, SkipsMatricesWithoutGradient) {
  Linears module;
  const auto muon = muon_of(module);
  module.draw_gradients();
  muon->step(kLr);
  module.draw_gradients();
  module.linears[2]->weight.mutable_grad().reset();
  const Tensor weight = module.linears[2]->weight.detach().clone(), other = module.linears[0]->weight.detach().clone();
  const Tensor momentum = muon->state().at("muon.momentum.linear2.weight").clone();
  muon->step(kLr);
  EXPECT_TRUE(torch::equal(module.linears[2]->weight, weight)) << "not even decayed";
  EXPECT_TRUE(torch::equal(muon->state().at("muon.momentum.linear2.weight"), momentum));
  EXPECT_FALSE(torch::equal(module.linears[0]->weight, other));
}

TEST(Muon, StateSharesStorageAndRestoresTheSameBits) {
  Linears first, second;
  const auto a = muon_of(first), b = muon_of(second);
  for (int step = 0; step < 3; ++step) {
    first.draw_gradients();
    a->step(kLr);
  }
  {
    const torch::NoGradGuard no_grad;
    const auto from = first.named_parameters();
    for (auto& item : second.named_parameters()) item.value().copy_(from[item.key()]);
    const auto state = a->state();
    for (auto& [name, tensor] : b->state()) tensor.copy_(state.at(name));
  }
  first.draw_gradients();
  const auto from = first.named_parameters();
  for (auto& item : second.named_parameters()) item.value().mutable_grad() = from[item.key()].grad();
  a->step(kLr);
  b->step(kLr);
  for (const auto& item : second.named_parameters()) EXPECT_TRUE(torch::equal(item.value(), from[item.key()]));
}

TEST(Muon, LearningRateFactorsApplyToDecayAndUpdate) {
  Linears module;
  TrainConfig config;
  config.optimizer = "muon";
  config.adamw.weight_decay = kDecay;
  config.lr_factors = {{{"match", "linear3"}, {"factor", 3.0}}, {{"match", "norm"}, {"factor", 0.0}}};
  const auto muon = make_optimizer(module, config);
  ReferenceMuon faster{module.linears[3]->weight.detach().to(torch::kDouble)};
  ReferenceMuon usual{module.linears[4]->weight.detach().to(torch::kDouble)};
  const Tensor norm = module.norm->weight.detach().clone();
  module.draw_gradients();
  faster.step(module.linears[3]->weight.grad(), 3 * kLr, kDecay);
  usual.step(module.linears[4]->weight.grad(), kLr, kDecay);
  muon->step(kLr);
  EXPECT_LT((module.linears[3]->weight - faster.weight).abs().max().item<double>(), 1e-5);
  EXPECT_LT((module.linears[4]->weight - usual.weight).abs().max().item<double>(), 5e-6);
  EXPECT_TRUE(torch::equal(module.norm->weight, norm));
}

}  // namespace
}  // namespace klab
