// SPDX-License-Identifier: Apache-2.0
// Which share of a training step the optimiser takes: a measurement, run with --gtest_also_run_disabled_tests.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "core/train/gradient_sums.h"
#include "core/train/make_optimizer.h"
#include "core/train/support.h"
#include "mixers/registry.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kBatch = 16, kLength = 512, kVocabulary = 512;

double seconds(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

Decoder hybrid(int64_t experts) {
  ModelConfig config(mixers());
  config.layers = 8;
  config.width = 512;
  config.heads = 4;
  config.head_dim = 128;
  config.pattern = {"kda*3", "mla"};
  config.moe.experts = experts;
  Decoder model(config, kVocabulary);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  return model;
}

Batch next_tokens() {
  const torch::Tensor tokens = torch::randint(kVocabulary, {kBatch, kLength + 1}, torch::kLong);
  return {tokens.narrow(1, 0, kLength).contiguous(), tokens.narrow(1, 1, kLength).contiguous()};
}

void measure(const std::string& name, int64_t experts) {
  at::set_num_threads(2);
  Decoder model = hybrid(experts);
  TrainConfig config;
  config.optimizer = name;
  const auto optimizer = make_optimizer(*model, config);
  GradientSums sums(model, model, Parallelism{});
  std::vector<double> gradients, updates;
  for (int step = 0; step < 3; ++step) {
    const Clock::time_point begin = Clock::now();
    sums.begin_step();
    torch::Tensor loss;
    score_batch(model, next_tokens(), &loss);
    loss.backward();
    sums.end_last_part();
    sums.clip_norm(1);
    const Clock::time_point update = Clock::now();
    gradients.push_back(std::chrono::duration<double>(update - begin).count());
    optimizer->step(1e-3);
    updates.push_back(seconds(update));
  }
  const double gradient = *std::min_element(gradients.begin() + 1, gradients.end());
  const double update = *std::min_element(updates.begin() + 1, updates.end());
  fmt::print("{:6} {:3} experts, {:.1f}M parameters, {} x {} tokens: gradients {:.2f} s, update {:.3f} s: {:.1f} %\n",
             name, experts, 1e-6 * static_cast<double>(parameter_count(*model)), kBatch, kLength, gradient, update,
             100 * update / (gradient + update));
  std::fflush(stdout);
}

TEST(OptimizerShare, DISABLED_AdamW) { measure("adamw", 0); }
TEST(OptimizerShare, DISABLED_Muon) { measure("muon", 0); }
TEST(OptimizerShare, DISABLED_MuonWithExperts) { measure("muon", 32); }

}  // namespace
}  // namespace klab
