// SPDX-License-Identifier: Apache-2.0
// Gradients summed over parts and ranks; training with several ranks is training with one, to the bit.
#include "core/train/gradient_sums.h"

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

Decoder initialised_model() {
  Decoder model = tiny_model();
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  return model;
}

Batch rows(const Batch& batch, int64_t begin, int64_t count) {
  return batch.map([&](const Tensor& x) { return x.narrow(0, begin, count); });
}

Tensors gradients_of(const Decoder& model) {
  Tensors all;
  for (const auto& item : model->named_parameters()) {
    if (item.value().grad().defined()) all[item.key()] = item.value().grad().clone();
  }
  return all;
}

// The gradients of a batch of 8 in 8 parts, each on the rank whose turn it is.
Tensors sums_over(int64_t count, bool sharded, int64_t bucket_bytes) {
  std::vector<Tensors> of_rank(static_cast<size_t>(count));
  const auto work = [&](const Ranks& ranks) {
    Decoder model = initialised_model();
    GradientSums sums(model, model, {.ranks = ranks, .shard_optimizer = sharded}, bucket_bytes);
    const Batch batch = previous_token_task(3)(0);
    const int64_t own = 8 / count;
    for (int step = 0; step < 2; ++step) {  // a second step begins anew
      sums.begin_step();
      for (int64_t i = 0; i < own; ++i) {
        if (i + 1 == own) sums.begin_last_part();
        Tensor loss;
        score_batch(model, rows(batch, ranks->rank() * own + i, 1), &loss);
        loss.backward();
        i + 1 == own ? sums.end_last_part() : sums.end_part();
      }
    }
    of_rank[static_cast<size_t>(ranks->rank())] = gradients_of(model);
  };
  if (count == 1) {
    work(std::make_shared<RankGroup>());
  } else {
    on_rank_threads(count, work);
  }
  Tensors all = of_rank[0];
  for (const Tensors& one : of_rank) {
    if (!sharded) expect_same_bits(one, all);
    for (const auto& [name, tensor] : one) {
      EXPECT_TRUE(!sharded || &one == of_rank.data() || !all.contains(name)) << name << " has two owners";
      all[name] = tensor;
    }
  }
  return all;
}

TEST(GradientSums, AreEqualToTheBitOnAnyNumberOfRanks) {
  const Tensors one = sums_over(1, false, 1 << 20);
  EXPECT_EQ(one.size(), initialised_model()->parameters().size());
  for (const int64_t count : {2, 4, 8}) {
    for (const bool sharded : {false, true}) {
      for (const int64_t bytes : {1, 300, 1 << 20}) {
        SCOPED_TRACE(fmt::format("{} ranks, sharded {}, buckets of {}", count, sharded, bytes));
        expect_same_bits(sums_over(count, sharded, bytes), one);
      }
    }
  }
}

TEST(GradientSums, BucketsAreASixteenthOfAll) {
  constexpr int64_t kMegabyte = 1 << 20;
  EXPECT_EQ(usual_bucket_bytes(100), kMegabyte);
  EXPECT_EQ(usual_bucket_bytes(160 * kMegabyte), 10 * kMegabyte);
  EXPECT_EQ(usual_bucket_bytes(10'000 * kMegabyte), 25 * kMegabyte);
}

TEST(GradientSums, KeepAsManyCopiesAsTheySay) {
  EXPECT_EQ(GradientSums::kept_copies(1), 0);
  EXPECT_EQ(GradientSums::kept_copies(2), 0);
  EXPECT_EQ(GradientSums::kept_copies(3), 1);
  EXPECT_EQ(GradientSums::kept_copies(6), 1);
  EXPECT_EQ(GradientSums::kept_copies(7), 2);
  EXPECT_EQ(GradientSums::kept_copies(15), 3);
}

// The gradient of a parameter that only some ranks use is summed; one that none uses stays without.
TEST(GradientSums, ParametersWithoutGradientOnSomeRanks) {
  for (const bool sharded : {false, true}) {
    std::vector<Tensors> of_rank(2);
    on_rank_threads(2, [&](const Ranks& ranks) {
      Decoder model = initialised_model();
      GradientSums sums(model, model, {.ranks = ranks, .shard_optimizer = sharded}, 1);
      auto parameters = model->named_parameters();
      sums.begin_step();
      sums.begin_last_part();
      Tensor loss = parameters["norm.weight"].sum();
      if (ranks->rank() == 1) loss = loss + 2 * parameters["embedding"].sum();
      loss.backward();
      sums.end_last_part();
      of_rank[static_cast<size_t>(ranks->rank())] = gradients_of(model);
    });
    Tensors all = of_rank[0];
    all.merge(of_rank[1]);
    ASSERT_EQ(all.size(), 2) << sharded;
    EXPECT_TRUE(all.at("norm.weight").eq(2).all().item<bool>());
    EXPECT_TRUE(all.at("embedding").eq(2).all().item<bool>());
  }
}

TEST(GradientSums, ClipTheJointNorm) {
  for (const int64_t count : {1, 2, 3}) {
    for (const bool sharded : {false, true}) {
      std::vector<double> squares(static_cast<size_t>(count), 0);
      const auto work = [&](const Ranks& ranks) {
        Decoder model = initialised_model();
        GradientSums sums(model, model, {.ranks = ranks, .shard_optimizer = sharded}, 100);
        sums.begin_step();
        sums.begin_last_part();
        Tensor loss = torch::zeros({});
        int64_t numbers = 0;
        for (const Tensor& parameter : model->parameters()) {
          loss = loss + parameter.sum() * (1.0 / static_cast<double>(count));
          numbers += parameter.numel();
        }
        loss.backward();
        sums.end_last_part();
        const double norm = std::sqrt(static_cast<double>(numbers));
        EXPECT_NEAR(sums.clip_norm(0.5), norm, 1e-4 * norm);
        double& own = squares[static_cast<size_t>(ranks->rank())];
        for (const auto& [name, gradient] : gradients_of(model)) own += gradient.square().sum().item<double>();
      };
      if (count == 1) {
        work(std::make_shared<RankGroup>());
      } else {
        on_rank_threads(count, work);
      }
      double sum = squares[0];
      for (size_t rank = 1; sharded && rank < squares.size(); ++rank) sum += squares[rank];
      EXPECT_NEAR(std::sqrt(sum), 0.5, 1e-5) << count << " " << sharded;
    }
  }
}

struct Case {
  std::string name, optimizer, dtype;
  int64_t ranks;
  bool sharded;
};

class RankedTraining : public testing::TestWithParam<Case> {
 protected:
  TinyRun run() const {
    TinyRun run;
    run.config.optimizer = GetParam().optimizer;
    run.config.dtype = GetParam().dtype;
    run.config.accumulate = 4;
    run.config.ema = 0.9;
    return run;
  }

  // Trains with several ranks; from the folder's last checkpoint with `resume`.
  void train(const TinyRun& run, const std::string& folder, int64_t ranks, int64_t until, bool resume) const {
    const auto work = [&](const Ranks& group) {
      Trainer trainer(tiny_model(), run.config, run.train, run.validation(), {folder}, {}, resume, torch::kCPU,
                      {.ranks = group, .shard_optimizer = GetParam().sharded});
      trainer.run(stop_after(until));
      trainer.test(TinyRun::batches_of(7, 3));
    };
    if (ranks == 1) return work(std::make_shared<RankGroup>());
    on_rank_threads(ranks, work);
  }
};

Tensors tensors_of(const std::string& checkpoint) { return load_checkpoint(checkpoint).tensors; }

TEST_P(RankedTraining, GivesTheCheckpointAndTheMetricsOfOneRankToTheBit) {
  const Folder folder;
  const TinyRun run = this->run();
  train(run, folder / "one", 1, 100, false);
  train(run, folder / "several", GetParam().ranks, 100, false);
  const RunFolder one{folder / "one"}, several{folder / "several"};
  EXPECT_EQ(timeless_rows(several), timeless_rows(one));
  for (const auto& path : {&RunFolder::last, &RunFolder::best}) {
    expect_same_bits(tensors_of((several.*path)()), tensors_of((one.*path)()));
  }
}

TEST_P(RankedTraining, ResumesWithAnotherNumberOfRanksToTheSameBits) {
  const Folder folder;
  const TinyRun run = this->run();
  train(run, folder / "whole", 1, 100, false);
  train(run, folder / "parts", GetParam().ranks, 7, false);
  train(run, folder / "parts", 1, 13, true);
  train(run, folder / "parts", GetParam().ranks, 100, true);
  expect_same_bits(tensors_of(RunFolder{folder / "parts"}.last()), tensors_of(RunFolder{folder / "whole"}.last()));
}

INSTANTIATE_TEST_SUITE_P(Ranks, RankedTraining,
                         testing::Values(Case{"AdamW2", "adamw", "float32", 2, false},
                                         Case{"AdamW2Sharded", "adamw", "float32", 2, true},
                                         Case{"AdamW4Sharded", "adamw", "float32", 4, true},
                                         Case{"Muon2", "muon", "float32", 2, false},
                                         Case{"Muon4Sharded", "muon", "float32", 4, true},
                                         Case{"Bfloat16Muon2Sharded", "muon", "bfloat16", 2, true}),
                         [](const auto& test) { return test.param.name; });

// Three ranks: the order of sums is another than with four parts.
TEST(RankedTrainer, ThreeRanksAndOddBatchesDifferByRoundingOnly) {
  TinyRun run;
  run.config.batch = 7;
  run.train = previous_token_task(1, 0, 7);
  Trainer one = run.trainer("");
  one.run(go_on);
  Tensors three;
  on_rank_threads(3, [&](const Ranks& ranks) {
    Trainer trainer(tiny_model(), run.config, run.train, run.validation(), {}, {}, false, torch::kCPU,
                    {.ranks = ranks, .shard_optimizer = true});
    trainer.run(go_on);
    EXPECT_NEAR(trainer.status().validation.loss(), one.status().validation.loss(), 1e-4);
    EXPECT_EQ(trainer.status().validation.targets, one.status().validation.targets);
    if (ranks->first()) three = parameters_of(trainer);
  });
  for (const auto& [name, tensor] : parameters_of(one)) {
    EXPECT_LT((three.at(name) - tensor).abs().max().item<double>(), 1e-3) << name;
  }
}

TEST(RankedTrainer, MoreRanksThanSequencesAreRefused) {
  TinyRun run;
  run.config.batch = 2;
  const std::string error = message_of<UsageError>([&] {
    on_rank_threads(3, [&](const Ranks& ranks) {
      Trainer(tiny_model(), run.config, run.train, run.validation(), {}, {}, false, torch::kCPU, {.ranks = ranks});
    });
  });
  EXPECT_TRUE(contains(error, "train.batch = 2 must be at least 3")) << error;
}

TEST(RankedTrainer, OnlyItsOwnerHasAParametersFloat32WeightsInABfloat16Run) {
  TinyRun run;
  run.config.dtype = "bfloat16";
  constexpr size_t kRanks = 3;
  std::array<std::set<std::string>, kRanks> present;
  std::array<Tensors, kRanks> whole;
  on_rank_threads(kRanks, [&](const Ranks& ranks) {
    Trainer trainer(tiny_model(), run.config, run.train, run.validation(), {}, {}, false, torch::kCPU,
                    {.ranks = ranks, .shard_optimizer = true});
    trainer.run(stop_after(3));
    const auto rank = static_cast<size_t>(ranks->rank());
    for (const auto& [name, weight] : own_parameters(*trainer.model())) present[rank].insert(name);
    const EvaluatedWeights evaluated = trainer.evaluated_weights();
    for (const auto& [name, weight] : own_parameters(*trainer.model())) whole[rank][name] = weight.clone();
  });
  for (const auto& item : whole[0]) {
    const std::string& name = item.first;
    const Tensor& weight = item.second;
    const auto holders =
        std::count_if(present.begin(), present.end(), [&](const auto& of) { return of.contains(name); });
    const bool narrow = name.find("A_log") == std::string::npos && name.find("dt_bias") == std::string::npos;
    EXPECT_EQ(holders, narrow ? 1 : 3) << name;
    for (const Tensors& other : whole) EXPECT_TRUE(torch::equal(other.at(name), weight)) << name;
  }
  EXPECT_EQ(whole[0].size(), tiny_model()->named_parameters().size());
}

// A rank whose loss is not finite ends all of them in the same way.
TEST(RankedTrainer, DivergesOnAllRanks) {
  TinyRun run;
  run.config.lr = 1e30;
  run.config.max_grad_norm = 1e30;
  std::atomic<int> diverged{0};
  EXPECT_THROW(on_rank_threads(2,
                               [&](const Ranks& ranks) {
                                 Trainer trainer(tiny_model(), run.config, run.train, run.validation(), {}, {}, false,
                                                 torch::kCPU, {.ranks = ranks});
                                 try {
                                   trainer.run(go_on);
                                 } catch (const Diverged&) {
                                   ++diverged;
                                   throw;
                                 }
                               }),
               Diverged);
  EXPECT_EQ(diverged, 2);
}

}  // namespace
}  // namespace klab
