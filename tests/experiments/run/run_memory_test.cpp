// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/run_memory.h"

#include <gtest/gtest.h>

#include "core/base/memory.h"
#include "core/base/support.h"

namespace klab {
namespace {

RunConfig made(const std::vector<Assignment>& more = {}) {
  std::vector<Assignment> all = {
      {"task.name", "mqar", "test"}, {"task.length", 16, "test"}, {"task.vocab", 64, "test"}};
  all.insert(all.end(), more.begin(), more.end());
  return make_run_config(all);
}

std::string refusal(const RunConfig& config) {
  return message_of<UsageError>([&] { require_memory(config, torch::kCPU); });
}

TEST(RunMemory, AModelThatDoesNotFitIsRefusedByName) {
  EXPECT_NO_THROW(require_memory(made(), torch::kCPU));
  const std::string message =
      refusal(made({{"model.width", 1 << 20, ""}, {"model.layers", 4096, ""}, {"model.pattern", "kda,gdn", ""}}));
  EXPECT_CONTAINS(message, "model.width = 1048576, model.layers = 4096: ");
  EXPECT_CONTAINS(message, "B of memory");
}

// Every layer has a SwiGLU of 3 x 4096 x 10928 parameters and a mixer of 2 heads: 27.4 billion parameters in all, which
// need 438 GB.
TEST(RunMemory, CountsEveryLayer) {
  if (machine_memory() > 400'000'000'000) GTEST_SKIP() << "this machine has enough memory";
  const std::string message =
      refusal(made({{"model.width", 4096, ""}, {"model.layers", 200, ""}, {"model.head_dim", 64, ""}}));
  EXPECT_CONTAINS(message, "27.");
  EXPECT_CONTAINS(message, "need 43");
}

// The model fits, its activations do not.
TEST(RunMemory, AStepThatDoesNotFitIsRefusedWithWhatWouldChangeIt) {
  const std::string message =
      refusal(made({{"train.batch", 1'000'000, ""}, {"task.length", 256, ""}, {"task.vocab", 128, ""}}));
  EXPECT_CONTAINS(message, "training steps of 1000000 x 256 tokens");
  EXPECT_CONTAINS(message, "train.activation_checkpointing");
}

TEST(RunMemory, IsThatOfTheAnswersOfAMinibatch) {
  const auto of_minibatches = [](int64_t minibatches) {
    return predict_memory(make_run_config({{"task.name", "question", ""},
                                           {"task.length", 16, ""},
                                           {"train.batch", 8, ""},
                                           {"rl.prompts", 16, ""},
                                           {"rl.samples", 16, ""},
                                           {"rl.max_new_tokens", 48, ""},
                                           {"rl.minibatches", minibatches, ""}}));
  };
  const RunMemory whole = of_minibatches(1), parts = of_minibatches(4);
  EXPECT_EQ(whole.shape.sequences, 256);
  EXPECT_EQ(whole.shape.length, 16 + 48);
  EXPECT_EQ(parts.shape.sequences, 64);
  EXPECT_GT(whole.step.activations, 3 * parts.step.activations);
  const std::string message = refusal(make_run_config(
      {{"task.name", "question", ""}, {"task.length", 16, ""}, {"rl.prompts", 100'000, ""}, {"rl.samples", 64, ""}}));
  EXPECT_CONTAINS(message, "rl.samples");
}

TEST(RunMemory, IsThatOfTheLargestPhase) {
  const RunMemory one = predict_memory(made({{"task.length", 64, ""}}));
  EXPECT_EQ(one.shape.sequences, 64);
  EXPECT_EQ(one.shape.length, 64);
  EXPECT_LT(one.shape.targets, 64) << "not every position has a target";
  const RunMemory phases = predict_memory(
      made({{"task.length", 64, ""}, {"train.phases", "[{steps: 5, task.length: 128, train.batch: 48}]", ""}}));
  EXPECT_EQ(phases.shape.sequences, 48);
  EXPECT_EQ(phases.shape.length, 128);
  EXPECT_GT(phases.step.activations, one.step.activations);
  const RunMemory parts = predict_memory(made({{"task.length", 64, ""}, {"train.accumulate", 8, ""}}));
  EXPECT_EQ(parts.shape.sequences, 8);
  EXPECT_LT(parts.step.activations, one.step.activations / 7);
  EXPECT_EQ(parts.data, one.data);
}

TEST(RunMemory, ALayerThatCannotBeMeasuredIsNamed) {
  const RunConfig config = made({{"model.width", 1 << 20, ""}, {"model.layers", 1, ""}});
  EXPECT_CONTAINS(message_of<UsageError>([&] { predict_memory(config); }), "model.width = 1048576 must be smaller");
}

}  // namespace
}  // namespace klab
