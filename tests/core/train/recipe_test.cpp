// SPDX-License-Identifier: Apache-2.0
// Training with every optimiser, with accumulation and with averaged weights; resuming with all of them.
#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/nn/utils/clip_grad.h>

#include "core/base/support.h"
#include "core/train/support.h"

namespace klab {
namespace {

using torch::Tensor;

std::map<std::string, Tensor> gradients_of(const Decoder& model) {
  std::map<std::string, Tensor> all;
  for (const auto& item : model->named_parameters()) all[item.key()] = item.value().grad().detach().clone();
  return all;
}

TEST(Recipe, EveryOptimizerLearnsTheTask) {
  for (const char* optimizer : {"adamw", "muon"}) {
    TinyRun run;
    run.config.steps = 300;
    run.config.eval_every = 50;
    run.config.optimizer = optimizer;
    Trainer trainer = run.trainer("");
    const double before = trainer.evaluate().loss();
    EXPECT_EQ(trainer.run(go_on), Outcome::steps_done);
    EXPECT_LT(trainer.status().validation.loss(), 0.1 * before) << optimizer;
    EXPECT_EQ(trainer.status().validation.acc_tok(), 1) << optimizer;
  }
}

// The loop as it was before there were other optimisers: two groups of ATen's fused AdamW, whose matrices come first.
TEST(Recipe, TheDefaultIsTheEarlierAdamWToTheBit) {
  TinyRun run;
  run.config.max_grad_norm = 0.3;
  Trainer trainer = run.trainer(""), twin = run.trainer("");
  trainer.run(go_on);
  std::vector<std::vector<Tensor>> groups(2);  // matrices, vectors
  for (const auto& item : twin.model()->named_parameters())
    groups[item.value().dim() >= 2 ? 0 : 1].push_back(item.value());
  std::vector<Tensor> all = groups[0];
  all.insert(all.end(), groups[1].begin(), groups[1].end());
  std::vector<std::vector<Tensor>> first(2), second(2), counts(2);
  for (size_t g = 0; g < 2; ++g) {
    for (const Tensor& parameter : groups[g]) {
      first[g].push_back(torch::zeros_like(parameter.detach()));
      second[g].push_back(torch::zeros_like(parameter.detach()));
      counts[g].push_back(torch::zeros({}));
    }
  }
  for (int64_t step = 1; step <= run.config.steps; ++step) {
    twin.model()->zero_grad();
    Tensor loss;
    score_batch(twin.model(), run.train(step - 1), &loss);
    loss.backward();
    torch::nn::utils::clip_grad_norm_(all, 0.3);
    const torch::NoGradGuard no_grad;
    for (size_t g = 0; g < 2; ++g) {
      std::vector<Tensor> gradients;
      for (const Tensor& parameter : groups[g]) gradients.push_back(parameter.grad());
      at::_foreach_add_(counts[g], 1);
      at::_fused_adamw_(groups[g], gradients, first[g], second[g], {}, counts[g], run.config.lr_at(step), 0.9, 0.95,
                        g == 0 ? 0.1 : 0.0, 1e-8, /*amsgrad=*/false, /*maximize=*/false);
    }
  }
  expect_same_bits(parameters_of(trainer), parameters_of(twin));
}

TEST(Recipe, EveryScheduleLearnsTheTask) {
  for (const char* schedule : {"constant", "cosine", "wsd"}) {
    TinyRun run;
    run.config.steps = 300;
    run.config.eval_every = 300;
    run.config.schedule = schedule;
    Trainer trainer = run.trainer("");
    trainer.run(go_on);
    EXPECT_LT(trainer.status().validation.loss(), 0.2) << schedule;
  }
}

// The rows have 0, 0, 1, 2, 3, 4, 5 and 5 targets: the first of four parts has none.
Batch uneven_batch(int64_t index) {
  Batch batch = previous_token_task(1)(index);
  for (int64_t row = 0; row < batch.labels.size(0); ++row) {
    batch.labels[row].narrow(0, 0, batch.labels.size(1) - std::max<int64_t>(0, row - 1)).fill_(-1);
  }
  return batch;
}

// The gradient of the mean loss of all targets as the weighted sum of those of single rows, in float64, and the sum of
// their magnitudes, for tolerances.
std::map<std::string, std::pair<Tensor, Tensor>> row_by_row(Decoder& model, const Batch& batch) {
  const double targets = batch.labels.ge(0).sum().item<double>();
  std::map<std::string, std::pair<Tensor, Tensor>> sums;
  for (int64_t row = 0; row < batch.labels.size(0); ++row) {
    const Batch one = batch.map([&](const Tensor& x) { return x.narrow(0, row, 1); });
    if (one.labels.ge(0).sum().item<int64_t>() == 0) continue;
    model->zero_grad();
    Tensor loss;
    const Score score = score_batch(model, one, &loss);
    loss.backward();
    for (const auto& [name, gradient] : gradients_of(model)) {
      const Tensor part = gradient.to(torch::kDouble) * (static_cast<double>(score.targets) / targets);
      auto& [sum, magnitude] = sums[name];
      sum = sum.defined() ? sum + part : part;
      magnitude = magnitude.defined() ? magnitude + part.abs() : part.abs();
    }
  }
  return sums;
}

TEST(Recipe, AccumulationGivesTheGradientOfTheMeanOverAllTargets) {
  TinyRun run;
  run.train = uneven_batch;
  run.config.max_grad_norm = 1e9;
  Trainer start = run.trainer("");
  const auto expected = row_by_row(start.model(), uneven_batch(0));
  Score first;
  for (const int64_t parts : {1, 2, 4, 8}) {
    run.config.accumulate = parts;
    Trainer trainer = run.trainer("");
    Score score;
    trainer.run([&](const TrainStatus& status, bool) {
      score = status.train;
      return Next::stop;
    });
    for (const auto& [name, gradient] : gradients_of(trainer.model())) {
      // Sums of at most 48 products in chains of four maps, each rounded to 2^-24: 200 of their magnitude.
      const auto& [sum, magnitude] = expected.at(name);
      const Tensor limit = 200 * std::ldexp(1.0, -24) * magnitude.max();
      EXPECT_LT((gradient - sum).abs().max().item<double>(), limit.item<double>()) << name << " in " << parts;
    }
    if (parts == 1) first = score;
    EXPECT_EQ(score.targets, 0 + 0 + 1 + 2 + 3 + 4 + 5 + 5) << parts;
    EXPECT_EQ(score.targets_right, first.targets_right);
    EXPECT_EQ(score.sequences, 8);
    EXPECT_EQ(score.sequences_right, first.sequences_right);
    EXPECT_NEAR(score.loss_sum, first.loss_sum, 1e-5);
  }
}

TEST(Recipe, TheNumberOfPartsMustDivideTheBatch) {
  TinyRun run;
  run.config.accumulate = 3;
  EXPECT_CONTAINS(message_of<UsageError>([&] { run.trainer(""); }), "train.accumulate = 3 must divide train.batch = 8");
}

TEST(Recipe, LearningRateFactorsReachTheOptimizer) {
  TinyRun run;
  run.config.lr_factors = {{{"match", "embedding"}, {"factor", 0}}};
  Trainer trainer = run.trainer("");
  const auto before = parameters_of(trainer);
  trainer.run(stop_after(2));
  const auto after = parameters_of(trainer);
  EXPECT_TRUE(torch::equal(after.at("embedding"), before.at("embedding")));
  EXPECT_FALSE(torch::equal(after.at("lm_head.weight"), before.at("lm_head.weight")));
  run.config.lr_factors = {{{"match", "embeding"}, {"factor", 2}}};
  EXPECT_CONTAINS(message_of<UsageError>([&] { run.trainer(""); }), "such as embedding, ");
}

TinyRun averaged_run() {
  TinyRun run;
  run.config.ema = 0.8;
  run.config.steps = 12;
  run.config.eval_every = 4;
  return run;
}

TEST(Recipe, AveragedWeightsAreEvaluated) {
  const TinyRun run = averaged_run();
  Trainer trainer = run.trainer("");
  std::map<std::string, Tensor> average = parameters_of(trainer);
  trainer.run([&](const TrainStatus& status, bool) {
    for (auto& [name, weight] : parameters_of(trainer)) average[name].lerp_(weight, 1 - 0.8);
    return status.step == 7 ? Next::stop : Next::step;
  });
  const auto weights = parameters_of(trainer);
  const Score score = trainer.evaluate();
  expect_same_bits(parameters_of(trainer), weights);
  {
    const EvaluatedWeights guard = trainer.evaluated_weights();
    expect_same_bits(parameters_of(trainer), average);
  }
  const torch::NoGradGuard no_grad;
  for (auto& item : trainer.model()->named_parameters()) item.value().copy_(average.at(item.key()));
  double loss_sum = 0;
  for (const Batch& batch : run.validation()) loss_sum += score_batch(trainer.model(), batch, nullptr).loss_sum;
  EXPECT_EQ(score.loss_sum, loss_sum);
}

// The last checkpoint has the weights and their average, the best one the average as the model's weights.
TEST(Recipe, TheBestCheckpointHasTheAveragedWeights) {
  TinyRun run = averaged_run();
  run.config.steps = 120;
  run.config.eval_every = 10;
  run.unlearn_from(60);
  const Folder folder;
  const RunFolder files{folder.path()};
  Trainer trainer = run.trainer(folder.path());
  std::map<int64_t, std::map<std::string, Tensor>> averages;
  trainer.run([&](const TrainStatus& status, bool evaluated) {
    const EvaluatedWeights guard = trainer.evaluated_weights();
    if (evaluated) averages[status.step] = parameters_of(trainer);
    return Next::step;
  });
  const int64_t step = trainer.status().best_step;
  ASSERT_LT(step, 120);
  const Checkpoint best = load_checkpoint(files.best()), last = load_checkpoint(files.last());
  for (const auto& [name, weight] : parameters_of(trainer)) {
    EXPECT_TRUE(torch::equal(best.tensor("model." + name), averages.at(step).at(name))) << name;
    EXPECT_TRUE(torch::equal(last.tensor("model." + name), weight)) << name;
    EXPECT_TRUE(torch::equal(last.tensor("ema." + name), averages.at(120).at(name))) << name;
  }
  EXPECT_FALSE(best.tensors.contains("ema.embedding"));

  const auto before = parameters_of(trainer);
  const std::vector<Batch> held_out = TinyRun::batches_of(3, 2);
  const TestScores scores = trainer.test(held_out);
  expect_same_bits(parameters_of(trainer), before);
  const auto loss_sum_of = [&](const std::map<std::string, Tensor>& weights) {
    const torch::NoGradGuard no_grad;
    for (auto& item : trainer.model()->named_parameters()) item.value().copy_(weights.at(item.key()));
    double sum = 0;
    for (const Batch& batch : held_out) sum += score_batch(trainer.model(), batch, nullptr).loss_sum;
    return sum;
  };
  EXPECT_EQ(scores.last.loss_sum, loss_sum_of(averages.at(120)));
  EXPECT_EQ(scores.best.loss_sum, loss_sum_of(averages.at(step)));
}

TEST(Recipe, ResumesToTheSameBitsWithEverything) {
  TinyRun run;
  run.train = uneven_batch;
  run.config.optimizer = "muon";
  run.config.accumulate = 4;
  run.config.ema = 0.9;
  run.config.schedule = "wsd";
  run.config.decay = "sqrt";
  run.config.decay_ratio = 0.5;
  run.config.lr_factors = {{{"match", "norm"}, {"factor", 2}}};
  run.config.dtype = "bfloat16";
  run.config.activation_checkpointing = true;
  const Folder straight_folder;
  const RunFolder straight_files{straight_folder.path()};
  Trainer straight = run.trainer(straight_folder.path());
  straight.run(go_on);
  straight.test(run.validation());
  const Checkpoint whole = load_checkpoint(straight_files.last());
  EXPECT_TRUE(whole.tensors.contains("muon.momentum.layer0.mlp.up_proj.weight"));
  EXPECT_TRUE(whole.tensors.contains("ema.layer0.mlp.up_proj.weight"));
  EXPECT_TRUE(whole.tensors.contains("adamw.first_moment.embedding"));
  for (const int64_t step : {1, 7, 10, 13}) {  // in the warm-up, the stable phase, at its end, in the decay
    const Folder cut_folder;
    const RunFolder cut_files{cut_folder.path()};
    Trainer cut = run.trainer(cut_folder.path());
    EXPECT_EQ(cut.run(stop_after(step)), Outcome::stopped);
    Trainer resumed = run.trainer(cut_folder.path(), /*resume=*/true);
    EXPECT_EQ(resumed.status().step, step);
    resumed.run(go_on);
    resumed.test(run.validation());
    expect_same_bits(whole.tensors, load_checkpoint(cut_files.last()).tensors);
    expect_same_bits(load_checkpoint(straight_files.best()).tensors, load_checkpoint(cut_files.best()).tensors);
    EXPECT_EQ(timeless_rows(straight_files), timeless_rows(cut_files));
  }
}

}  // namespace
}  // namespace klab
