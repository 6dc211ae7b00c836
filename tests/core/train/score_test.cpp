// SPDX-License-Identifier: Apache-2.0
#include "core/train/score.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/train/support.h"

namespace klab {
namespace {

using torch::Tensor;

Decoder drawn_model() {
  Decoder model = tiny_model();
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
  return model;
}

// -log p(label), from the logits in float64.
double loss_of(const Tensor& logits, int64_t label) {
  const Tensor wide = logits.detach().to(torch::kDouble);
  return std::log(wide.exp().sum().item<double>()) - wide[label].item<double>();
}

// Two sequences of four tokens: the model is right on all three targets of the first and wrong on both of the second.
struct Scored {
  Scored() {
    batch.inputs = torch::tensor({0, 1, 2, 3, 4, 5, 0, 2}, torch::kLong).view({2, 4});
    const torch::NoGradGuard no_grad;
    logits = model->forward(batch.inputs);
    const Tensor predicted = logits.argmax(-1);
    batch.labels = torch::full({2, 4}, -1, torch::kLong);
    for (const int64_t t : {1, 2, 3}) batch.labels[0][t] = predicted[0][t];
    for (const int64_t t : {0, 3}) batch.labels[1][t] = (predicted[1][t] + 1).remainder(kTinyVocabulary);
    batch.difficulty = torch::tensor({-9, 1, 1, 2, 2, -9, -9, 7}, torch::kLong).view({2, 4});
  }

  double loss(int64_t b, int64_t t) const { return loss_of(logits[b][t], batch.labels[b][t].item<int64_t>()); }

  Decoder model = drawn_model();
  Batch batch;
  Tensor logits;
};

constexpr double kRounding = 1e-5;

TEST(ScoreBatch, CountsTargetsAndWholeSequences) {
  Scored s;
  const Score score = score_batch(s.model, s.batch, nullptr);
  EXPECT_EQ(score.targets, 5);
  EXPECT_EQ(score.targets_right, 3);
  EXPECT_EQ(score.sequences, 2);
  EXPECT_EQ(score.sequences_right, 1);
  const double sum = s.loss(0, 1) + s.loss(0, 2) + s.loss(0, 3) + s.loss(1, 0) + s.loss(1, 3);
  EXPECT_NEAR(score.loss_sum, sum, kRounding);
  EXPECT_NEAR(score.loss(), sum / 5, kRounding);
  EXPECT_DOUBLE_EQ(score.acc_tok(), 0.6);
  EXPECT_DOUBLE_EQ(score.acc_seq(), 0.5);
}

TEST(ScoreBatch, TheMeanLossIsDifferentiable) {
  Scored s;
  Tensor loss;
  const Score score = score_batch(s.model, s.batch, &loss);
  EXPECT_NEAR(loss.item<double>(), score.loss(), kRounding);
  loss.backward();
  for (const auto& item : s.model->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
  }
}

TEST(ScoreBatch, AddsTargetsUnderTheirDifficulty) {
  Scored s;
  std::map<int64_t, Score> by_difficulty;
  by_difficulty[7].targets = 10;  // of earlier batches
  score_batch(s.model, s.batch, nullptr, {{s.batch.difficulty, &by_difficulty}});
  ASSERT_EQ(by_difficulty.size(), 3u) << "positions without a target are not counted";
  EXPECT_EQ(by_difficulty[1].targets, 2);
  EXPECT_EQ(by_difficulty[1].targets_right, 2);
  EXPECT_NEAR(by_difficulty[1].loss_sum, s.loss(0, 1) + s.loss(0, 2), kRounding);
  EXPECT_EQ(by_difficulty[2].targets, 2);
  EXPECT_EQ(by_difficulty[2].targets_right, 1);
  EXPECT_NEAR(by_difficulty[2].loss_sum, s.loss(0, 3) + s.loss(1, 0), kRounding);
  EXPECT_EQ(by_difficulty[7].targets, 11);
  EXPECT_EQ(by_difficulty[7].targets_right, 0);
  EXPECT_EQ(by_difficulty[1].sequences, 0);
}

TEST(Score, SumsEveryCount) {
  Score sum{1.5, 0.5, 30, 4, 3, 2, 1};
  sum += Score{0.5, 0.25, 20, 6, 5, 3, 2};
  EXPECT_DOUBLE_EQ(sum.loss_sum, 2);
  EXPECT_DOUBLE_EQ(sum.surprisal_sum, 0.75);
  EXPECT_EQ(sum.bytes, 50);
  EXPECT_DOUBLE_EQ(sum.excess(), 0.2 - 0.075);
  EXPECT_DOUBLE_EQ(sum.bits_per_byte(), 2 / std::log(2.0) / 50);
  EXPECT_DOUBLE_EQ(sum.perplexity(), std::exp(0.2));
  EXPECT_EQ(sum.targets, 10);
  EXPECT_EQ(sum.targets_right, 8);
  EXPECT_EQ(sum.sequences, 5);
  EXPECT_EQ(sum.sequences_right, 3);
  const Metrics metrics = sum.metrics();
  EXPECT_DOUBLE_EQ(metrics.loss, 0.2);
  EXPECT_DOUBLE_EQ(metrics.acc_tok, 0.8);
  EXPECT_DOUBLE_EQ(metrics.acc_seq, 0.6);
}

TEST(Score, BetterHasMoreSequencesRightThenLessLoss) {
  const Metrics base{1.0, 0.5, 0.5};
  EXPECT_TRUE(better({2.0, 0.1, 0.6}, base)) << "sequences come before the loss";
  EXPECT_FALSE(better({0.1, 0.9, 0.4}, base));
  EXPECT_TRUE(better({0.9, 0.1, 0.5}, base));
  EXPECT_FALSE(better({1.1, 0.9, 0.5}, base));
  EXPECT_FALSE(better(base, base));
}

TEST(Score, OneMetricIsBetterLargerOrSmaller) {
  for (const char* metric : {"acc_seq", "acc_tok", "best_acc_seq"}) {
    EXPECT_TRUE(better(metric, 0.6, 0.5)) << metric;
    EXPECT_FALSE(better(metric, 0.5, 0.6)) << metric;
    EXPECT_FALSE(better(metric, 0.5, 0.5)) << metric;
  }
  for (const char* metric : {"loss", "best_loss"}) {
    EXPECT_TRUE(better(metric, 0.5, 0.6)) << metric;
    EXPECT_FALSE(better(metric, 0.6, 0.5)) << metric;
    EXPECT_FALSE(better(metric, 0.5, 0.5)) << metric;
  }
}

}  // namespace
}  // namespace klab
