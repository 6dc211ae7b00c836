// SPDX-License-Identifier: Apache-2.0
// Sequences cut over ranks: the loss and the gradients of one rank, for every mixer.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>

#include "core/train/score.h"
#include "mixers/support.h"
#include "support/ranks.h"

namespace klab {
namespace {

using torch::Tensor;
using Ranks = std::shared_ptr<RankGroup>;

constexpr int64_t kVocabulary = 17;

Decoder model_of(const std::string& pattern, torch::ScalarType dtype) {
  std::vector<Assignment> config{{"layers", 2, ""}, {"width", 24, ""}, {"heads", 3, ""}, {"head_dim", 10, ""}};
  if (pattern == "experts") {
    config.insert(config.end(), {{"pattern", "kda", ""},
                                 {"first_dense", 0, ""},
                                 {"moe.experts", 6, ""},
                                 {"moe.experts_per_token", 2, ""},
                                 {"moe.expert_width", 12, ""}});
  } else if (pattern == "wide_values") {  // key and value widths together are beyond the kernels' largest head
    config.insert(config.end(), {{"pattern", "gdn", ""}, {"gdn.value_dim", 250, ""}});
  } else if (pattern == "grouped_values") {
    config.insert(config.end(), {{"pattern", "kda", ""}, {"kda.value_heads", 6, ""}});
  } else {
    config.push_back({"pattern", pattern, ""});
  }
  Decoder model(model_config(config), kVocabulary);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
  model->to(dtype);
  return model;
}

// Rows of random tokens; packed: with sequences that begin at `starts`.
Batch random_batch(int64_t rows, int64_t length, const std::vector<int64_t>& starts) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  Batch batch;
  batch.inputs = torch::randint(kVocabulary, {rows, length}, generator, torch::kLong);
  batch.labels = torch::randint(-2, kVocabulary, {rows, length}, generator, torch::kLong);
  if (starts.empty()) return batch;
  batch.starts = torch::zeros({rows, length}, torch::kLong);
  batch.starts.select(1, 0).fill_(1);
  for (const int64_t start : starts) batch.starts.view({-1}).select(0, start).fill_(1);
  return batch;
}

struct Step {
  Score score;
  std::map<std::string, Tensor> gradients;
};

Step step_of(Decoder& model, const Batch& batch, double targets) {
  Tensor loss;
  Step step{score_batch(model, batch, &loss), {}};
  (loss * (static_cast<double>(step.score.targets) / targets)).backward();
  for (const auto& item : model->named_parameters()) {
    const Tensor& gradient = item.value().grad();
    step.gradients[item.key()] = gradient.defined() ? gradient : torch::zeros_like(item.value()).detach();
  }
  return step;
}

// The error of b relative to the largest gradient of a parameter.
double error_of(const Step& a, const Step& b) {
  double worst = std::abs(a.score.loss_sum - b.score.loss_sum) / a.score.loss_sum;
  for (const auto& [name, gradient] : a.gradients) {
    const double scale = gradient.abs().max().item<double>() + 1e-6;
    const double error = (gradient - b.gradients.at(name)).abs().max().item<double>() / scale;
    EXPECT_FALSE(std::isnan(error)) << name;
    worst = std::max(worst, std::isnan(error) ? INFINITY : error);
  }
  return worst;
}

class ContextParallel : public testing::TestWithParam<std::string> {
 protected:
  void expect_equal(const Batch& batch, int64_t count, torch::ScalarType dtype, double tolerance,
                    bool checkpointing = false) {
    const auto targets = static_cast<double>(batch.labels.ge(0).sum().item<int64_t>());
    Decoder whole = model_of(GetParam(), dtype);
    const Step expected = step_of(whole, batch, targets);
    on_rank_threads(count, [&](const Ranks& ranks) {
      Decoder model = model_of(GetParam(), dtype);
      model->set_activation_checkpointing(checkpointing);
      Step step = step_of(model, part_of(batch, ranks), targets);
      for (auto& [name, gradient] : step.gradients) gradient = ranks->sum(gradient);
      Score sum;
      for (const Score& score : gather_scores(*ranks, {step.score})) sum += score;
      step.score = sum;
      if (!ranks->first()) return;
      EXPECT_EQ(sum.targets, expected.score.targets);
      EXPECT_EQ(sum.sequences, expected.score.sequences);
      EXPECT_EQ(sum.sequences_right, expected.score.sequences_right);
      EXPECT_LT(error_of(expected, step), tolerance) << count << " ranks";
    });
  }
};

TEST_P(ContextParallel, OddCutsOfRowsAndOfPackedSequences) {
  for (const int64_t count : {2, 3}) {
    expect_equal(random_batch(1, 37, {}), count, torch::kDouble, 1e-9);
    expect_equal(random_batch(3, 23, {}), count, torch::kDouble, 1e-9);
    expect_equal(random_batch(1, 66, {7, 8, 22, 33, 60}), count, torch::kDouble, 1e-9);  // 22, 33: also cuts
    expect_equal(random_batch(2, 40, {3, 41}), count, torch::kDouble, 1e-9);             // one over three ranks
  }
}

// Parts of one or two tokens, shorter than the convolution.
TEST_P(ContextParallel, PartsShorterThanTheConvolution) {
  expect_equal(random_batch(1, 5, {}), 3, torch::kDouble, 1e-9);
  expect_equal(random_batch(1, 5, {2}), 3, torch::kDouble, 1e-9);
}

// The hand-written kernels.
TEST_P(ContextParallel, InFloat32WithinItsRounding) {
  if (GetParam() == "experts") GTEST_SKIP() << "the selection of experts is discrete";
  expect_equal(random_batch(2, 150, {100, 120}), 2, torch::kFloat, 2e-3);
}

TEST_P(ContextParallel, WithActivationCheckpointing) {
  expect_equal(random_batch(2, 40, {30}), 2, torch::kDouble, 1e-9, /*checkpointing=*/true);
}

std::vector<std::string> patterns() {
  std::vector<std::string> all = mixers().names();
  all.insert(all.end(), {"kda:2+mla:1", "kda, mla_rope", "experts", "wide_values", "grouped_values"});
  return all;
}

std::string name_of(const testing::TestParamInfo<std::string>& test) {
  std::string name = test.param;
  const auto is_other = [](unsigned char c) { return std::isalnum(c) == 0; };
  std::replace_if(name.begin(), name.end(), is_other, '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Mixers, ContextParallel, testing::ValuesIn(patterns()), name_of);

}  // namespace
}  // namespace klab
