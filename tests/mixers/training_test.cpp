// SPDX-License-Identifier: Apache-2.0
// Training steps of every mixer: with activation checkpointing to the bit, in bfloat16 within its rounding.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>

#include "core/train/gradient_sums.h"
#include "core/train/qk_clip.h"
#include "core/train/score.h"
#include "core/train/working_copy.h"
#include "mixers/support.h"

namespace klab {
namespace {

RankGroup alone;

using torch::Tensor;

constexpr int64_t kVocabulary = 17;

std::vector<std::string> patterns() {
  std::vector<std::string> all = mixers().names();
  all.insert(all.end(), {"kda:2+mla:1", "experts"});
  return all;
}

// Two layers of a pattern item; "experts": KDA with experts.
Decoder model_of(const std::string& pattern) {
  std::vector<Assignment> config{{"layers", 2, ""}, {"width", 32, ""}, {"heads", 3, ""}, {"head_dim", 16, ""}};
  if (pattern == "experts") {
    config.insert(config.end(), {{"pattern", "kda", ""},
                                 {"first_dense", 0, ""},
                                 {"moe.experts", 6, ""},
                                 {"moe.experts_per_token", 2, ""},
                                 {"moe.expert_width", 12, ""}});
  } else {
    config.push_back({"pattern", pattern, ""});
  }
  Decoder model(model_config(config), kVocabulary);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
  return model;
}

// Random tokens; packed rows have two sequences each.
Batch random_batch(bool packed) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
  Batch batch;
  batch.inputs = torch::randint(kVocabulary, {3, 70}, generator, torch::kLong);
  batch.labels = torch::randint(kVocabulary, {3, 70}, generator, torch::kLong);
  if (packed) {
    batch.starts = torch::zeros({3, 70}, torch::kLong);
    batch.starts.select(1, 0).fill_(1);
    batch.starts.select(1, 33).fill_(1);
  }
  return batch;
}

std::vector<std::pair<std::string, Tensor>> gradients_of(const Decoder& model) {
  std::vector<std::pair<std::string, Tensor>> all;
  for (const auto& item : model->named_parameters()) {
    all.emplace_back(item.key(), item.value().grad());
    item.value().mutable_grad().reset();
  }
  return all;
}

double step_of(Decoder& model, const Batch& batch) {
  Tensor loss;
  score_batch(model, batch, &loss);
  loss.backward();
  return loss.item<double>();
}

class TrainingStep : public testing::TestWithParam<std::string> {};

TEST_P(TrainingStep, ActivationCheckpointingGivesTheSameBits) {
  for (const bool packed : {false, true}) {
    Decoder model = model_of(GetParam());
    const Batch batch = random_batch(packed);
    const double loss = step_of(model, batch);
    const auto kept = gradients_of(model);
    model->set_activation_checkpointing(true);
    EXPECT_EQ(step_of(model, batch), loss);
    const auto again = gradients_of(model);
    for (size_t i = 0; i < kept.size(); ++i) {
      ASSERT_EQ(again[i].second.defined(), kept[i].second.defined()) << kept[i].first;
      if (!kept[i].second.defined()) continue;
      EXPECT_TRUE(torch::equal(again[i].second, kept[i].second)) << kept[i].first << (packed ? ", packed" : "");
    }
  }
}

// A rounding to bfloat16 has a relative error of at most 2^-9. Some 30 of them one after the other lie between the loss
// and the first layer in each direction, and their errors add up as a random walk: sqrt(60) 2^-9 = 0.015. Twice that is
// for gates and norms, which amplify errors. Experts are not compared: rounded scores may select others.
TEST_P(TrainingStep, Bfloat16GivesTheGradientWithinItsRounding) {
  if (GetParam() == "experts") GTEST_SKIP() << "the selection of experts is discrete";
  Decoder model = model_of(GetParam());
  const Batch batch = random_batch(false);
  const double loss = step_of(model, batch);
  const auto expected = gradients_of(model);
  WorkingCopy copy(model, torch::kBFloat16);
  copy.refresh();
  EXPECT_NEAR(step_of(copy.model(), batch), loss, 0.03 * loss);
  GradientSums(model, copy.model(), Parallelism{}).end_last_part();
  double error = 0, norm = 0;
  const auto gradients = gradients_of(model);
  for (size_t i = 0; i < expected.size(); ++i) {
    ASSERT_TRUE(gradients[i].second.defined()) << expected[i].first;
    error += (gradients[i].second - expected[i].second).square().sum().item<double>();
    norm += expected[i].second.square().sum().item<double>();
  }
  EXPECT_LT(std::sqrt(error / norm), 0.03);
  EXPECT_GT(std::sqrt(error / norm), 1e-4) << "nothing was rounded";
}

INSTANTIATE_TEST_SUITE_P(Mixers, TrainingStep, testing::ValuesIn(patterns()), test_name);

// Both the router's bias, which has no gradient, and decay rates are float32 in the copy and the model's own.
TEST(WorkingCopyOfMixers, SharesWideParameters) {
  Decoder model = model_of("experts");
  WorkingCopy copy(model, torch::kBFloat16);
  copy.refresh();
  step_of(copy.model(), random_batch(false));
  copy.model()->after_step(alone);
  const auto own = model->named_parameters(), copies = copy.model()->named_parameters();
  for (const char* name : {"layer0.mlp.correction_bias", "layer0.mixer.A_log"}) {
    EXPECT_EQ(copies[name].scalar_type(), torch::kFloat) << name;
    EXPECT_TRUE(copies[name].is_alias_of(own[name])) << name;
  }
  EXPECT_GT(own["layer0.mlp.correction_bias"].abs().max().item<double>(), 0);
  GradientSums(model, copy.model(), Parallelism{}).end_last_part();
  EXPECT_GT(own["layer0.mixer.A_log"].grad().abs().max().item<double>(), 0);
}

// Logits are recorded where the step is computed, and the weights are scaled where they are kept.
TEST(WorkingCopyOfMixers, QkClipScalesTheModelsWeights) {
  Decoder model = model_of("mla");
  WorkingCopy copy(model, torch::kBFloat16);
  QkClip clip(model, copy.model(), 0.01);
  copy.refresh();
  step_of(copy.model(), random_batch(false));
  const Tensor before = model->named_parameters()["layer1.mixer.q_proj.weight"].detach().clone();
  EXPECT_GT(clip.after_step(alone), 0.01);
  EXPECT_FALSE(torch::equal(model->named_parameters()["layer1.mixer.q_proj.weight"], before));
  copy.refresh();
  step_of(copy.model(), random_batch(false));
  EXPECT_NEAR(clip.after_step(alone), 0.01, 0.0005);
}

}  // namespace
}  // namespace klab
