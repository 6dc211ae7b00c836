// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run_config.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/support.h"

namespace klab {
namespace {

RunConfig made(const std::vector<Assignment>& more = {}) {
  std::vector<Assignment> all = {
      {"task.name", "mqar", "test"}, {"task.length", 16, "test"}, {"task.vocab", 16, "test"}};
  all.insert(all.end(), more.begin(), more.end());
  return make_run_config(all);
}

std::string refusal(const std::vector<Assignment>& more) {
  return message_of<UsageError>([&] { made(more); });
}

TEST(Variants, SetKeysOfTheTask) {
  const RunConfig config = made({{"test.also", "{length: 32, mqar.pairs: 4}, {length: 24}", ""},
                                 {"mixture.tasks", "[{length: 28, weight: 3}]", ""}});
  const std::vector<TaskVariant> tested = config.tested_variants(), trained = config.trained_tasks();
  ASSERT_EQ(tested.size(), 2u);
  EXPECT_EQ(tested[0].name, "length=32 mqar.pairs=4");
  EXPECT_EQ(tested[0].task.length, 32);
  EXPECT_EQ(tested[1].task.length, 24);
  EXPECT_EQ(tested[1].task.vocab, 16) << "the other keys are those of the run";
  ASSERT_EQ(trained.size(), 2u);
  EXPECT_EQ(trained[0].task.length, 16) << "the task itself";
  EXPECT_EQ(trained[0].weight, 1);
  EXPECT_EQ(trained[1].name, "length=28");
  EXPECT_EQ(trained[1].weight, 3);
  EXPECT_EQ(config.task.length, 16);
}

TEST(Variants, MistakesAreNamedWithTheirPlaceInTheList) {
  EXPECT_CONTAINS(refusal({{"test.also", "{length: 32}, {lenght: 64}", ""}}),
                  "test.also[1]: unknown key 'lenght'; did you mean 'length'?");
  EXPECT_CONTAINS(refusal({{"test.also", "{length: 0}", ""}}), "test.also[0]: length = 0 must be between 1 and");
  EXPECT_CONTAINS(refusal({{"test.also", "{length: 32, weight: 2}", ""}}), "unknown key 'weight'");
  EXPECT_CONTAINS(refusal({{"mixture.tasks", "{length: 32, weight: 0}", ""}}),
                  "mixture.tasks[0]: weight = 0 must be between 1 and 1000000");
  EXPECT_CONTAINS(refusal({{"test.also", "{length: 2}", ""}}), "must be at least 4 for mqar");
}

TEST(RunConfig, TheVocabularyHoldsThatOfEveryVariant) {
  EXPECT_EQ(made().vocabulary(), 17);
  EXPECT_EQ(made({{"test.also", "{vocab: 64}", ""}}).vocabulary(), 65);
  EXPECT_EQ(made({{"mixture.tasks", "{vocab: 32}", ""}}).vocabulary(), 33);
  EXPECT_EQ(made({{"model.vocab", 100, ""}}).vocabulary(), 100);
  EXPECT_CONTAINS(refusal({{"model.vocab", 5, ""}}), "model.vocab = 5 must be at least 17");
}

TEST(RunConfig, ValuesSetInTheStructAreCheckedToo) {
  RunConfig config = made();
  config.train.steps = -1;
  EXPECT_CONTAINS(message_of<UsageError>([&] { config.validate(); }), "train.steps = -1 must be between 1 and");
}

TEST(RunConfig, ACopyHasOptionsOfItsOwn) {
  const RunConfig first = made({{"task.mqar.pairs", 2, ""}, {"model.kda.conv_size", 3, ""}});
  RunConfig second = first;
  assign(second, {{"task.mqar.pairs", 4, ""}, {"model.kda.conv_size", 5, ""}});
  const auto value = [](const RunConfig& config, const char* key) { return Fields::of(config).find(key)->get(); };
  EXPECT_EQ(value(first, "task.mqar.pairs"), 2);
  EXPECT_EQ(value(second, "task.mqar.pairs"), 4);
  EXPECT_EQ(value(first, "model.kda.conv_size"), 3);
  EXPECT_EQ(value(second, "model.kda.conv_size"), 5);
}

TEST(RunConfig, TheNameDependsOnTheWholeConfig) {
  EXPECT_EQ(made().run_name().substr(0, 9), "mqar-kda-");
  EXPECT_EQ(made().run_name(), made().run_name());
  EXPECT_NE(made().run_name(), made({{"train.beta2", 0.96, ""}}).run_name());
  EXPECT_EQ(made({{"model.pattern", "kda*2,mla", ""}, {"model.layers", 3, ""}}).run_name().substr(0, 15),
            "mqar-kda_2-mla-");
}

TEST(RunFields, ListTheOptionsOfEveryTaskAndMixerOnce) {
  const RunFields& all = all_run_fields();
  std::vector<std::string> keys;
  for (const Field& field : all.fields) keys.push_back(field.key);
  for (const char* key : {"task.mqar.pairs", "task.stack.stacks", "model.kda.conv_size", "model.mla.kv_lora_rank",
                          "model.moe.experts", "train.max_grad_norm", "mixture.tasks", "test.also"}) {
    EXPECT_EQ(std::count(keys.begin(), keys.end(), key), 1) << key;
  }
  EXPECT_EQ(all.renamed.at("train.clip"), "train.max_grad_norm");
  EXPECT_EQ(all.renamed.at("train.warmup"), "train.warmup_ratio");
  EXPECT_EQ(all.renamed.at("model.mla.latent"), "model.mla.kv_lora_rank");
  EXPECT_EQ(all.renamed.at("model.gdn.conv_taps"), "model.gdn.conv_size");
}

}  // namespace
}  // namespace klab
