// SPDX-License-Identifier: Apache-2.0
#include "core/rl/rollout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/base/random.h"
#include "core/base/support.h"
#include "core/model/generation.h"
#include "core/rl/rollout_model.h"
#include "core/rl/support.h"

namespace klab {
namespace {

using torch::Tensor;

const std::vector<std::string> kPatterns = {"kda,mla", "gdn,mla_rope", "mamba2,attention", "kda"};

RolloutOptions sampling(int64_t samples, double temperature) {
  RolloutOptions options;
  options.samples = samples;
  options.max_new_tokens = 8;
  options.stop = {kEnd};
  options.temperature = temperature;
  options.seed = 11;
  return options;
}

TEST(Rollout, EqualsGenerateTokenForToken) {
  for (const std::string& pattern : kPatterns) {
    Decoder model = small_policy(pattern);
    const std::vector<Prompt> prompts = some_prompts(6);
    const std::vector<Answer> greedy = roll_out(model, prompts, sampling(1, 0));
    const std::vector<Answer> sampled = roll_out(model, prompts, sampling(3, 1.3));
    ASSERT_EQ(greedy.size(), 6u);
    ASSERT_EQ(sampled.size(), 18u);
    GenerationOptions how;
    how.max_new_tokens = 8;
    how.stop = {kEnd};
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_EQ(greedy[i].tokens, generate(model, {prompts[i].tokens}, how).tokens[0]) << pattern << " prompt " << i;
    }
    how.samples = 3;
    how.sampling.temperature = 1.3;
    how.sampling.seed = 11;
    const Generated alone = generate(model, {prompts[0].tokens}, how);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(sampled[i].tokens, alone.tokens[i]) << pattern << " answer " << i;
    std::set<std::vector<int64_t>> different;
    for (const Answer& answer : sampled) different.insert(answer.tokens);
    EXPECT_GT(different.size(), 6u) << "of 18";
  }
}

TEST(Rollout, AnswersEndAtTheStopTokenOrTheLimit) {
  Decoder model = small_policy("kda,mla");
  size_t ended = 0, cut = 0;
  for (const Answer& answer : roll_out(model, some_prompts(20), sampling(4, 1))) {
    ASSERT_EQ(answer.log_probs.size(), answer.tokens.size());
    ASSERT_LE(answer.tokens.size(), 8u);
    const auto stops = std::count(answer.tokens.begin(), answer.tokens.end(), kEnd);
    EXPECT_EQ(stops, answer.tokens.back() == kEnd ? 1 : 0);
    EXPECT_TRUE(answer.tokens.size() == 8 || answer.tokens.back() == kEnd);
    ++(stops > 0 ? ended : cut);
  }
  EXPECT_GT(ended, 5u);
  EXPECT_GT(cut, 5u);
}

// Chunk form and recurrent form of one policy: the difference is rounding.
TEST(Rollout, ItsProbabilitiesAreThoseOfOnePassOverTheAnswers) {
  for (const std::string& pattern : kPatterns) {
    for (const double temperature : {1.0, 0.6}) {
      Decoder model = small_policy(pattern);
      const std::vector<Prompt> prompts = some_prompts(5);
      const std::vector<Answer> answers = roll_out(model, prompts, sampling(4, temperature));
      std::vector<const Answer*> all;
      std::vector<float> sampled;
      for (const Answer& answer : answers) {
        all.push_back(&answer);
        sampled.insert(sampled.end(), answer.log_probs.begin(), answer.log_probs.end());
      }
      const TokenPredictions found = predict_answers(model, all, temperature);
      const Tensor difference = (found.log_probs.detach() - torch::tensor(sampled)).abs();
      EXPECT_LT(difference.max().item<double>(), 2e-4) << pattern << " at " << temperature;
      EXPECT_GE(found.entropy.min().item<double>(), 0);
      EXPECT_LE(found.entropy.max().item<double>(), std::log(kWords) + 1e-5);
    }
  }
}

// An answer of a known distribution: the entropy, and the shares of first tokens.
TEST(Rollout, SamplesThePolicyAtTheTemperature) {
  Decoder model = small_policy("kda");
  const std::vector<Prompt> prompts = {{{1, 2}, {0}}};
  const Tensor logits = model->forward(torch::tensor({{1, 2}})).select(1, 1).squeeze(0).detach().to(torch::kDouble);
  const Tensor expected = torch::softmax(logits / 0.7, 0);
  RolloutOptions options = sampling(4000, 0.7);
  options.max_new_tokens = 1;
  options.at_once = 4000;
  const std::vector<Answer> answers = roll_out(model, prompts, options);
  std::vector<double> shares(kWords);
  for (const Answer& answer : answers) {
    const int64_t token = answer.tokens[0];
    shares[static_cast<size_t>(token)] += 1.0 / 4000;
    EXPECT_NEAR(answer.log_probs[0], std::log(expected[token].item<double>()), 1e-4);
  }
  for (int64_t token = 0; token < kWords; ++token) {
    const double p = expected[token].item<double>();
    EXPECT_NEAR(shares[static_cast<size_t>(token)], p, 5 * std::sqrt(p / 4000) + 1e-9);
  }
  const TokenPredictions found = predict_answers(model, {&answers[0]}, 0.7);
  EXPECT_NEAR(found.entropy.item<double>(), -(expected * expected.log()).sum().item<double>(), 1e-4);
}

TEST(Rollout, JudgeRefusesRewardsOutsideTheRange) {
  Decoder model = small_policy("kda");
  const std::vector<Prompt> prompts = some_prompts(2);
  std::vector<Answer> answers = roll_out(model, prompts, sampling(1, 0));
  judge(
      answers, [](const Attempt& attempt) { return attempt.prompt.size() == 1 ? 1 : 0.25; }, word);
  EXPECT_EQ(answers[0].reward, 1);
  EXPECT_TRUE(answers[0].right());
  EXPECT_EQ(answers[1].reward, 0.25);
  EXPECT_FALSE(answers[1].right());
  for (const double wrong : {-0.1, 1.5, std::nan("")}) {
    EXPECT_CONTAINS(message_of<Error>([&] {
                      judge(
                          answers, [=](const Attempt&) { return wrong; }, word);
                    }),
                    "[0, 1]");
  }
}

// A low-precision copy samples nearly the same policy, follows the weights, and leaves the model as it is.
TEST(RolloutModel, SamplesInFewerBits) {
  for (const std::string& pattern : mixers().names()) {
    for (const std::string dtype : {"bfloat16", "int8"}) {
      Decoder model = small_policy(pattern);
      RolloutModel rollout(model, dtype);
      const auto mismatch = [&] {
        const std::vector<Prompt> prompts = some_prompts(10);
        const std::vector<Answer> answers = roll_out(rollout.model(), prompts, sampling(4, 1));
        std::vector<const Answer*> all;
        std::vector<float> sampled;
        for (const Answer& answer : answers) {
          all.push_back(&answer);
          sampled.insert(sampled.end(), answer.log_probs.begin(), answer.log_probs.end());
        }
        const torch::NoGradGuard no_grad;
        return (predict_answers(model, all, 1).log_probs - torch::tensor(sampled)).abs().mean().item<double>();
      };
      rollout.refresh();
      EXPECT_GT(mismatch(), 1e-4) << pattern << " " << dtype << ": must round";
      EXPECT_LT(mismatch(), 0.1) << pattern << " " << dtype;
      {
        const torch::NoGradGuard no_grad;
        const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(5);
        for (const auto& parameter : model->parameters()) {
          parameter.add_(0.3 * torch::randn(parameter.sizes(), generator));
        }
      }
      EXPECT_GT(mismatch(), 0.2) << pattern << " " << dtype << ": the mismatch of the old weights is large";
      rollout.refresh();
      EXPECT_LT(mismatch(), 0.1) << pattern << " " << dtype;
      for (const auto& parameter : model->parameters()) EXPECT_EQ(parameter.scalar_type(), torch::kFloat);
    }
  }
}

}  // namespace
}  // namespace klab
