// SPDX-License-Identifier: Apache-2.0
// The predicted traffic of a step against the bytes that ranks send.
#include "core/train/rank_traffic.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <array>
#include <atomic>

#include "core/base/support.h"
#include "core/model/context_part.h"
#include "core/train/gradient_sums.h"
#include "core/train/score.h"
#include "core/train/working_copy.h"
#include "mixers/support.h"
#include "support/ranks.h"

namespace klab {
namespace {

using torch::Tensor;
using Ranks = std::shared_ptr<RankGroup>;

constexpr int64_t kVocabulary = 31, kSequences = 4, kLength = 30;

struct Case {
  std::string name, pattern;
  RankLayout layout;
  bool checkpointing = false, narrow = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

ModelConfig config_of(const Case& c) {
  std::vector<Assignment> config{
      {"layers", 2, ""}, {"width", 24, ""}, {"heads", 3, ""}, {"head_dim", 8, ""}, {"pattern", c.pattern, ""}};
  if (c.layout.experts > 1) {
    config.insert(config.end(), {{"moe.experts", 4, ""},
                                 {"moe.experts_per_token", 4, ""},  // all: so that tokens are distributed evenly
                                 {"moe.expert_width", 12, ""}});
  }
  return model_config(config);
}

class RankTrafficTest : public testing::TestWithParam<Case> {};

TEST_P(RankTrafficTest, IsWhatRanksSend) {
  const Case& c = GetParam();
  const ModelConfig config = config_of(c);
  TrainConfig train;
  train.batch = kSequences;
  train.activation_checkpointing = c.checkpointing;
  train.dtype = c.narrow ? "bfloat16" : "float32";
  std::array<std::atomic<int64_t>, 4> sent{};  // gradients, weights, experts, context
  on_rank_threads(c.layout.ranks, [&](const Ranks& ranks) {
    const Parallelism parallelism = Parallelism::of(ranks, c.layout);
    Decoder model(config, kVocabulary, parallelism.experts);
    model->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
    WorkingCopy narrow(model, torch::kBFloat16);
    narrow.refresh();
    Decoder& computing = c.narrow ? narrow.model() : model;
    computing->set_activation_checkpointing(c.checkpointing);
    const Ranks replicas = parallelism.replicas();
    GradientSums sums(model, computing, parallelism);
    const int64_t own = kSequences / parallelism.shares();
    const Tensor tokens = torch::randint(kVocabulary, {own, kLength}, torch::kLong);
    const Batch batch{tokens, tokens};
    const auto before = ranks->bytes_sent();
    const auto experts_before = parallelism.experts->bytes_sent(), context_before = parallelism.context->bytes_sent();
    sums.begin_step();
    sums.begin_last_part();
    // Without the scores, which part_of() and score_batch() exchange too.
    const Batch here = parallelism.context->alone() ? batch : part_of(batch, parallelism.context);
    const bool cut = here.part != nullptr;
    computing
        ->hidden(cut ? here.inputs.reshape({1, -1}) : here.inputs,
                 cut ? sequences_of(here.part, torch::kCPU) : Sequences{})
        .sum()
        .backward();
    sums.end_last_part();
    sent[0] += ranks->bytes_sent() - before;
    const auto then = ranks->bytes_sent();
    sums.share_weights();
    sent[1] += ranks->bytes_sent() - then;
    sent[2] += parallelism.experts->bytes_sent() - experts_before;
    sent[3] += parallelism.context->bytes_sent() - context_before;
  });
  const RankTraffic predicted = predict_rank_traffic(config, kVocabulary, train, kSequences, kLength, c.layout);
  const auto mean = [&](size_t kind) { return static_cast<double>(sent[kind]) / static_cast<double>(c.layout.ranks); };
  if (c.layout.replicas() == c.layout.ranks || c.layout.replicas() == 1) {  // else experts' are sent in their own group
    EXPECT_NEAR(mean(0), predicted.gradients, 0.5);
    EXPECT_NEAR(mean(1), predicted.weights, 0.5);
  } else {
    EXPECT_LT(mean(0), predicted.gradients);
  }
  EXPECT_NEAR(mean(2), predicted.experts, 0.5);
  EXPECT_NEAR(mean(3), predicted.context, 0.5);
}

std::vector<Case> cases() {
  std::vector<Case> all{{"Data", "kda", {3}},
                        {"Zero", "kda", {3, 1, 1, true}},
                        {"ZeroBfloat16", "kda,mla", {3, 1, 1, true}, false, true},
                        {"Checkpointing", "kda,mla", {2, 2}, true},
                        {"Experts", "kda", {2, 1, 2, true}},
                        {"ExpertsOfSome", "kda", {4, 1, 2}},
                        {"ExpertsAndContext", "kda,attention", {2, 2, 2}}};
  for (const std::string& mixer : mixers().names()) all.push_back({"Context_" + mixer, mixer, {3, 3}});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Layouts, RankTrafficTest, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(RankTraffic, RefusesWhatCannotBeShared) {
  const ModelConfig config = config_of({"", "kda", {}});
  const auto message = [&](int64_t sequences, const RankLayout& layout) {
    return message_of<UsageError>([&] { predict_rank_traffic(config, kVocabulary, {}, sequences, kLength, layout); });
  };
  EXPECT_EQ(message(8, {4, 3}), "--cp = 3 must divide the 4 ranks");
  EXPECT_EQ(message(8, {4, 1, 3}), "--ep = 3 must divide the 4 ranks");
  EXPECT_NE(message(2, {4}).find("train.batch = 2 must be at least 4"), std::string::npos);
}

}  // namespace
}  // namespace klab
