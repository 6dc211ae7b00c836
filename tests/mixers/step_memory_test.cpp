// SPDX-License-Identifier: Apache-2.0
// The predicted memory of training steps against what the tensors of such steps take.
#include "core/train/step_memory.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/train/memory_meter.h"
#include "core/train/trainer.h"
#include "mixers/support.h"

namespace klab {
namespace {

constexpr int64_t kVocabulary = 100;

struct Case {
  std::string name;
  std::vector<Assignment> model;
  std::vector<Assignment> train;
  int64_t batch = 4, length = 200;
  int64_t vocabulary = kVocabulary;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::string& name : mixers().names()) all.push_back({name, {{"pattern", name, ""}}, {}});
  const Assignment hybrid{"pattern", "kda,mla", ""}, ratio{"ratio", "3:1", ""}, layers{"layers", 4, ""};
  const std::vector<Assignment> model{hybrid, ratio, layers};
  const std::vector<Assignment> experts{
      hybrid, layers, {"moe.experts", 24, ""}, {"moe.experts_per_token", 4, ""}, {"moe.expert_width", 32, ""}};
  all.push_back({"long", model, {}, 3, 1200});
  all.push_back({"long_attention", {{"pattern", "attention", ""}}, {}, 2, 1500});
  all.push_back({"long_fox", {{"pattern", "fox", ""}}, {}, 2, 1500});
  all.push_back({"bfloat16", model, {{"dtype", "bfloat16", ""}}});
  all.push_back({"checkpointing", model, {{"activation_checkpointing", true, ""}}});
  all.push_back({"muonclip", model, {{"optimizer", "muonclip", ""}}});
  all.push_back({"average", model, {{"ema", 0.9, ""}}});
  all.push_back({"parts", model, {{"accumulate", 4, ""}}, 8});
  all.push_back({"narrow_parts", model, {{"accumulate", 4, ""}, {"dtype", "bfloat16", ""}}, 8});
  all.push_back({"experts", experts, {}});
  all.push_back({"narrow_experts", experts, {{"dtype", "bfloat16", ""}}});
  all.push_back({"one_token", model, {{"optimizer", "muon", ""}}, 1, 2});
  all.push_back({"large_vocabulary", model, {}, 4, 200, 20'000});
  all.push_back({"narrow_large_vocabulary", model, {{"dtype", "bfloat16", ""}}, 4, 200, 20'000});
  return all;
}

class StepMemoryTest : public testing::TestWithParam<Case> {};

TEST_P(StepMemoryTest, IsThatOfARealStep) {
  const Case& c = GetParam();
  std::vector<Assignment> keys{{"layers", 2, ""}, {"width", 96, ""}, {"heads", 3, ""}, {"head_dim", 32, ""}};
  keys.insert(keys.end(), c.model.begin(), c.model.end());
  const ModelConfig model = model_config(keys);
  TrainConfig train;
  assign(train, c.train);
  train.batch = c.batch;
  train.steps = 2;
  train.eval_every = 1000;
  const StepShape shape{c.batch / train.accumulate, c.length, c.length};
  const auto predicted = static_cast<double>(predict_step_memory(model, c.vocabulary, train, shape).peak);

  const MemoryMeter meter;
  const auto tokens = [&](int64_t rows) { return torch::randint(c.vocabulary, {rows, c.length}, torch::kLong); };
  const auto batch = [&](int64_t) { return Batch{tokens(c.batch), tokens(c.batch)}; };
  const std::vector<Batch> validation{{tokens(1), tokens(1)}};
  Trainer trainer(Decoder(model, c.vocabulary), train, batch, validation, RunFolder{}, {}, /*resume=*/false,
                  torch::kCPU);
  trainer.run([](const TrainStatus&, bool) { return Next::step; });
  EXPECT_NEAR(predicted / static_cast<double>(meter.peak()), 1, 0.1) << predicted << " and " << meter.peak();
}

std::string name_of(const testing::TestParamInfo<Case>& test) { return test.param.name; }

INSTANTIATE_TEST_SUITE_P(Cases, StepMemoryTest, testing::ValuesIn(cases()), name_of);

// The number of bytes is not a matter of chance: a prediction that ignores a term would differ by these.
TEST(StepMemory, CountsWhatIsKeptBetweenSteps) {
  const ModelConfig model = model_config({{"width", 64, ""}, {"layers", 3, ""}});
  const auto predict = [&](const std::vector<Assignment>& keys) {
    TrainConfig train;
    assign(train, keys);
    return predict_step_memory(model, kVocabulary, train, {2, 64, 64});
  };
  const StepMemory adamw = predict({}), average = predict({{"ema", 0.9, ""}}),
                   narrow = predict({{"dtype", "bfloat16", ""}});
  EXPECT_EQ(adamw.parameters, parameter_count(*Decoder(model, kVocabulary)));
  EXPECT_EQ(adamw.weights, 4 * adamw.parameters);
  EXPECT_EQ(adamw.gradients, 4 * adamw.parameters);
  EXPECT_NEAR(static_cast<double>(adamw.optimizer), 8.0 * static_cast<double>(adamw.parameters), 1000);
  EXPECT_EQ(average.weights, 8 * adamw.parameters);
  EXPECT_NEAR(static_cast<double>(narrow.weights), 6.0 * static_cast<double>(adamw.parameters),
              2000);  // A_log and dt_bias
  EXPECT_LT(predict({{"optimizer", "muon", ""}}).optimizer, adamw.optimizer);
  EXPECT_LT(predict({{"activation_checkpointing", true, ""}}).activations, adamw.activations / 2);
}

}  // namespace
}  // namespace klab
