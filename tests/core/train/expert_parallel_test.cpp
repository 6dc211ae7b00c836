// SPDX-License-Identifier: Apache-2.0
// Experts spread over ranks: outputs, gradients and training of one rank that has all of them.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/support.h"
#include "core/train/support.h"
#include "support/ranks.h"

namespace klab {
namespace {

using torch::Tensor;
using Ranks = std::shared_ptr<RankGroup>;
using Tensors = std::map<std::string, Tensor>;

Decoder initialised(const Ranks& experts) {
  Decoder model = tiny_model_with_experts(experts);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(3));
  for (auto& [name, parameter] : own_parameters(*model)) parameter.set_data(parameter.to(torch::kDouble));
  return model;
}

Tensor random_tokens(int64_t rows, uint64_t seed) {
  return torch::randint(kTinyVocabulary, {rows, 5}, at::make_generator<at::CPUGeneratorImpl>(seed), torch::kLong);
}

// Hidden states of the rows, and the gradients of their squares' sum.
std::pair<Tensor, Tensors> result_of(Decoder& model, const Tensor& tokens) {
  const Tensor hidden = model->hidden(tokens);
  hidden.square().sum().backward();
  Tensors gradients;
  for (const auto& [name, tensor] : own_parameters(*model)) {
    gradients[name] = tensor.grad().defined() ? tensor.grad() : torch::zeros_like(tensor).detach();
  }
  return {hidden.detach(), gradients};
}

double error(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>() / (b.abs().max().item<double>() + 1e-6);
}

void prefer_first_experts(Decoder& model) {
  const torch::NoGradGuard no_grad;
  for (auto& [name, tensor] : own_parameters(*model)) {
    if (name.ends_with("correction_bias")) tensor.narrow(0, 0, 2).fill_(10);
  }
}

struct Layout {
  int64_t ranks, experts;  // of which share experts
};

class ExpertParallel : public testing::TestWithParam<Layout> {
 protected:
  // Rank r has r + 1 rows.
  void expect_equal(bool checkpointing, bool one_rank_only) const {
    const int64_t count = GetParam().ranks, shared = GetParam().experts;
    std::vector<Tensor> tokens;
    for (int64_t rank = 0; rank < count; ++rank) tokens.push_back(random_tokens(rank + 1, 20 + rank));
    Decoder whole = initialised(nullptr);
    if (one_rank_only) prefer_first_experts(whole);
    const std::pair<Tensor, Tensors> expected = result_of(whole, torch::cat(tokens));
    const Tensor& hidden = expected.first;
    const Tensors& gradients = expected.second;
    on_rank_threads(count, [&](const Ranks& ranks) {
      const Parallelism parallelism = Parallelism::of(ranks, {count, 1, shared});
      Decoder model = initialised(parallelism.experts);
      if (one_rank_only) prefer_first_experts(model);
      model->set_activation_checkpointing(checkpointing);
      const int64_t rank = ranks->rank();
      const auto [own_hidden, own_gradients] = result_of(model, tokens[static_cast<size_t>(rank)]);
      EXPECT_LT(error(own_hidden, hidden.narrow(0, rank * (rank + 1) / 2, rank + 1)), 1e-10);
      const torch::NoGradGuard no_grad;
      EXPECT_LT(error(model->hidden(tokens[static_cast<size_t>(rank)]), own_hidden), 1e-10);
      const std::set<std::string> spread = model->expert_parameters();
      const Ranks replicas = parallelism.replicas();
      EXPECT_EQ(spread.size(), 2 * 6 * 3u);
      EXPECT_EQ(own_gradients.size(), gradients.size() - spread.size() + spread.size() / static_cast<size_t>(shared));
      for (const auto& [name, gradient] : own_gradients) {
        const Tensor sum = (spread.contains(name) ? replicas : ranks)->sum(gradient);
        EXPECT_LT(error(sum, gradients.at(name)), 1e-10) << name;
      }
    });
  }
};

TEST_P(ExpertParallel, OutputsAndGradientsOfOneRank) { expect_equal(false, false); }
TEST_P(ExpertParallel, WithActivationCheckpointing) { expect_equal(true, false); }
TEST_P(ExpertParallel, WhenOtherRanksExpertsGetNothing) { expect_equal(false, true); }

INSTANTIATE_TEST_SUITE_P(Layouts, ExpertParallel, testing::Values(Layout{2, 2}, Layout{3, 3}, Layout{4, 2}),
                         [](const auto& test) { return fmt::format("{}Of{}", test.param.experts, test.param.ranks); });

struct Case {
  std::string name, optimizer, dtype;
  bool sharded, shards = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

class ExpertParallelTraining : public testing::TestWithParam<Case> {
 protected:
  TinyRun run() const {
    TinyRun run;
    run.config.optimizer = GetParam().optimizer;
    run.config.dtype = GetParam().dtype;
    run.config.ema = 0.9;
    return run;
  }

  void train(const std::string& folder, int64_t count, int64_t shared, int64_t until, bool resume) const {
    const TinyRun run = this->run();
    const auto work = [&](const Ranks& ranks) {
      const Parallelism parallelism = Parallelism::of(ranks, {count, 1, shared, GetParam().sharded, GetParam().shards});
      Trainer trainer(tiny_model_with_experts(parallelism.experts), run.config, run.train, TinyRun::batches_of(2, 3),
                      {folder}, {}, resume, torch::kCPU, parallelism);
      trainer.run(stop_after(until));
      trainer.test(TinyRun::batches_of(7, 3));  // the ranks have different numbers of batches
    };
    if (count == 1) return work(std::make_shared<RankGroup>());
    on_rank_threads(count, work);
  }
};

TEST_P(ExpertParallelTraining, EndsWhereOneRankDoesAndResumesOnOthers) {
  const Folder folder;
  train(folder / "one", 1, 1, 100, false);
  const Tensors one = load_checkpoint(RunFolder{folder / "one"}.last()).tensors;
  train(folder / "several", 4, 2, 8, false);
  train(folder / "several", 1, 1, 12, true);
  train(folder / "several", 3, 3, 100, true);
  const Tensors several = load_checkpoint(RunFolder{folder / "several"}.last()).tensors;
  ASSERT_EQ(several.size(), one.size());
  const double tolerance = GetParam().dtype == "bfloat16" ? 0.1 : 2e-3;
  for (const auto& [name, tensor] : one) {
    if (name == "generator") continue;
    const Tensor difference = (several.at(name) - tensor).to(torch::kDouble);
    EXPECT_LT(difference.norm().item<double>(), tolerance * (tensor.to(torch::kDouble).norm().item<double>() + 1e-2))
        << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Optimizers, ExpertParallelTraining,
                         testing::Values(Case{"AdamW", "adamw", "float32", false},
                                         Case{"AdamWSharded", "adamw", "float32", true},
                                         Case{"CheckpointsInShards", "adamw", "float32", true, true},
                                         Case{"MuonSharded", "muon", "float32", true},
                                         Case{"Bfloat16", "adamw", "bfloat16", false}),
                         [](const auto& test) { return test.param.name; });

TEST(ExpertParallelTrainer, RefusesWhatCannotBeShared) {
  const TinyRun run;
  const auto message = [&](const std::function<Decoder(const Ranks&)>& model) {
    return message_of<UsageError>([&] {
      on_rank_threads(2, [&](const Ranks& ranks) {
        const Parallelism parallelism = Parallelism::of(ranks, {2, 1, 2});
        Trainer(model(parallelism.experts), run.config, run.train, run.validation(), {}, {}, false, torch::kCPU,
                parallelism);
      });
    });
  };
  const auto dense = [](const Ranks& ranks) { return Decoder(tiny_model()->config(), kTinyVocabulary, ranks); };
  EXPECT_TRUE(contains(message(dense), "--ep 2: there are no experts to share"));
  const auto odd = [](const Ranks& ranks) {
    ModelConfig config = tiny_model_with_experts()->config();
    config.moe.experts = 5;
    return Decoder(config, kTinyVocabulary, ranks);
  };
  EXPECT_TRUE(contains(message(odd), "model.moe.experts = 5 must be a multiple of the 2 ranks"));
}

}  // namespace
}  // namespace klab
