// SPDX-License-Identifier: Apache-2.0
// QK-Clip: recorded logits against a formulation of their own, and clipped weights on the same batch.
#include "core/train/qk_clip.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/model/mixer_probe.h"
#include "mixers/support.h"

namespace klab {
namespace {

RankGroup alone;

using torch::Tensor;

struct Case {
  const char* name;
  std::vector<Assignment> options;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

constexpr int64_t kHeads = 4;

class QkClipTest : public testing::TestWithParam<Case> {
 protected:
  QkClipTest() {
    std::vector<Assignment> assignments{{"pattern", GetParam().name, ""},
                                        {"layers", 2, ""},
                                        {"width", 24, ""},
                                        {"heads", kHeads, ""},
                                        {"head_dim", 6, ""}};
    for (const Assignment& option : GetParam().options) {
      assignments.push_back({std::string(GetParam().name) + "." + option.key, option.value, ""});
    }
    model_ = Decoder(model_config(assignments), 20);
    model_->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
    for (const auto& module : model_->modules()) {
      if (auto mixer = std::dynamic_pointer_cast<AttentionMixer>(module)) mixers_.push_back(mixer);
    }
    tokens_ = torch::randint(20, {3, 150}, at::make_generator<at::CPUGeneratorImpl>(4), torch::kLong);
  }

  // The logits of every head of every layer in a forward pass: [layers][B, H, T, T], -infinity where masked.
  std::vector<Tensor> logits() {
    std::vector<Tensor> found;
    MixerProbe probe;
    probe.attention = [&](const kernels::AttentionInputs& in, const Tensor&) {
      const int64_t B = in.q.size(0), T = in.q.size(1);
      Tensor all = torch::full({B, kHeads, T, T}, -std::numeric_limits<float>::infinity());
      for (int64_t h = 0; h < kHeads; ++h) {
        const Tensor q = in.q.select(2, h), k = in.k.select(2, h * in.k.size(2) / kHeads);
        const Tensor products = q.matmul(k.transpose(1, 2)) / std::sqrt(static_cast<double>(q.size(2)));
        const Tensor seen = torch::ones({T, T}, torch::kBool).tril().triu(1 - in.window.value_or(T));
        all.select(1, h).copy_(
            products.detach().masked_fill(seen.logical_not(), -std::numeric_limits<float>::infinity()));
      }
      found.push_back(all);
    };
    for (const auto& mixer : mixers_) mixer->watch(&probe);
    {
      const torch::NoGradGuard no_grad;
      model_->hidden(tokens_);
    }
    for (const auto& mixer : mixers_) mixer->watch(nullptr);
    return found;
  }

  Decoder model_{nullptr};
  std::vector<std::shared_ptr<AttentionMixer>> mixers_;
  Tensor tokens_;
};

TEST_P(QkClipTest, RecordsTheLargestLogitOfEveryHead) {
  for (const auto& mixer : mixers_) mixer->record_logits(true);
  model_->hidden(tokens_);
  const std::vector<Tensor> all = logits();  // without gradients: not recorded
  ASSERT_EQ(all.size(), mixers_.size());
  for (size_t layer = 0; layer < mixers_.size(); ++layer) {
    const Tensor largest = mixers_[layer]->take_largest_logits();
    EXPECT_TRUE(torch::allclose(largest, all[layer].amax({0, 2, 3}), 1e-5, 1e-6)) << largest;
    EXPECT_FALSE(mixers_[layer]->take_largest_logits().defined());
  }
}

// Makes the largest logit of head 2 of the first layer 500, and checks that a step later it is 100 on the same batch.
TEST_P(QkClipTest, GivesTheLimitOnTheSameBatchAndKeepsOtherHeads) {
  const Tensor before = logits()[0];
  Tensor factors = torch::ones({kHeads});
  factors[2] = 500 / before.select(1, 2).max();
  mixers_[0]->scale_logits(factors);
  QkClip clip(model_, 100);
  model_->hidden(tokens_);
  const Tensor large = logits()[0];
  EXPECT_NEAR(large.select(1, 2).max().item<double>(), 500, 0.01);
  std::map<std::string, Tensor> weights;
  for (const auto& item : model_->named_parameters()) weights[item.key()] = item.value().detach().clone();
  EXPECT_NEAR(clip.after_step(alone), 500, 0.01);
  const Tensor after = logits()[0];
  EXPECT_NEAR(after.select(1, 2).max().item<double>(), 100, 0.002);
  for (const int64_t head : {0, 1, 3}) EXPECT_TRUE(after.select(1, head).equal(large.select(1, head))) << head;
  int64_t changed = 0;
  for (const auto& item : model_->named_parameters()) changed += !item.value().equal(weights.at(item.key()));
  EXPECT_GE(changed, 1);
  EXPECT_LE(changed, 2);  // of queries and keys of one layer
  model_->hidden(tokens_);
  EXPECT_LE(clip.after_step(alone), 100.01);
}

TEST_P(QkClipTest, LeavesSmallLogitsAlone) {
  QkClip clip(model_, 1e6);
  model_->hidden(tokens_);
  const Tensor weight = model_->named_parameters()[1].value().detach().clone();
  EXPECT_LT(clip.after_step(alone), 1e6);
  EXPECT_TRUE(model_->named_parameters()[1].value().equal(weight));
}

INSTANTIATE_TEST_SUITE_P(Mixers, QkClipTest,
                         testing::Values(Case{"attention", {}}, Case{"attention", {{"kv_heads", 2, ""}}},
                                         Case{"attention_rope", {}}, Case{"fox", {}},
                                         Case{"sliding_attention", {{"window", 40, ""}}}, Case{"gated_mla", {}},
                                         Case{"mla", {}}, Case{"mla_rope", {}}, Case{"mla", {{"q_lora_rank", 7, ""}}}));

// The norms bound the logits, and a head's weights do not change them.
TEST(QkClip, LeavesNormalisedQueriesAlone) {
  Decoder model(model_config({{"pattern", "gated_attention", ""},
                              {"layers", 1, ""},
                              {"width", 16, ""},
                              {"heads", 2, ""},
                              {"head_dim", 8, ""}}),
                20);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
  QkClip clip(model, 1e-3);
  model->hidden(torch::arange(12).view({1, 12}));
  std::map<std::string, Tensor> weights;
  for (const auto& item : model->named_parameters()) weights[item.key()] = item.value().detach().clone();
  EXPECT_GT(clip.after_step(alone), 1e-3);
  for (const auto& item : model->named_parameters()) EXPECT_TRUE(item.value().equal(weights.at(item.key())));
}

TEST(QkClip, NeedsNoAttention) {
  Decoder model(
      model_config(
          {{"pattern", "gdn", ""}, {"layers", 1, ""}, {"width", 16, ""}, {"heads", 2, ""}, {"head_dim", 8, ""}}),
      20);
  QkClip clip(model, 100);
  EXPECT_EQ(clip.after_step(alone), -std::numeric_limits<double>::infinity());
}

}  // namespace
}  // namespace klab
