// SPDX-License-Identifier: Apache-2.0
// Sequences cut over ranks: the loss and the gradients of one rank, for every mixer.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <cmath>

#include "core/model/context_part.h"
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

// The packed sequences of a batch as one row.
Sequences packed(const Batch& batch) {
  if (batch.part) return sequences_of(batch.part, torch::kCPU);
  if (!batch.starts.defined()) return {};
  const Tensor begins = batch.starts.reshape({-1}).nonzero().squeeze(-1);
  return {torch::cat({begins, torch::full({1}, batch.starts.numel(), torch::kLong)})};
}

// The final hidden states [tokens, D], and the gradients of their sum with random weights.
struct Result {
  Tensor hidden;
  std::map<std::string, Tensor> gradients;
};

Result result_of(Decoder& model, const Batch& batch, const Tensor& weights) {
  const bool one_row = batch.part != nullptr || batch.starts.defined();
  const Tensor tokens = one_row ? batch.inputs.reshape({1, -1}) : batch.inputs;
  const Tensor hidden = model->hidden(tokens, packed(batch)).flatten(0, 1);
  (hidden * weights).sum().backward();
  Result result{hidden.detach(), {}};
  for (const auto& item : model->named_parameters()) {
    const Tensor& gradient = item.value().grad();
    result.gradients[item.key()] = gradient.defined() ? gradient : torch::zeros_like(item.value()).detach();
  }
  return result;
}

void expect_close(const Tensor& a, const Tensor& b, double tolerance, const std::string& what) {
  const double error = (a - b).abs().max().item<double>() / (b.abs().max().item<double>() + 1e-6);
  EXPECT_TRUE(error < tolerance) << what << ": " << error;  // not for NaN
}

class ContextParallel : public testing::TestWithParam<std::string> {
 protected:
  void expect_equal(const std::vector<Batch>& batches, int64_t count, torch::ScalarType dtype, double tolerance,
                    bool checkpointing = false) {
    std::vector<Tensor> weights;
    std::vector<Result> expected;
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
    for (const Batch& batch : batches) {
      Decoder model = model_of(GetParam(), dtype);
      weights.push_back(torch::randn({batch.inputs.numel(), 24}, generator, torch::kDouble).to(dtype));
      expected.push_back(result_of(model, batch, weights.back()));
    }
    on_rank_threads(count, [&](const Ranks& ranks) {
      for (size_t i = 0; i < batches.size(); ++i) {
        Decoder model = model_of(GetParam(), dtype);
        model->set_activation_checkpointing(checkpointing);
        const Batch here = part_of(batches[i], ranks);
        const int64_t begin = here.part->begin(), own = here.inputs.numel();
        const Result part = result_of(model, here, weights[i].narrow(0, begin, own));
        const std::string at = fmt::format("batch {}, rank {} of {}, ", i, ranks->rank(), count);
        expect_close(part.hidden, expected[i].hidden.narrow(0, begin, own), tolerance, at + "hidden states");
        for (const auto& [name, gradient] : part.gradients) {
          expect_close(ranks->sum(gradient), expected[i].gradients.at(name), tolerance, at + name);
        }
      }
    });
  }
};

TEST_P(ContextParallel, OddCutsOfRowsAndOfPackedSequences) {
  const std::vector<Batch> batches{
      random_batch(3, 23, {}), random_batch(1, 66, {7, 8, 22, 33, 60}),  // 22, 33: also cuts
      random_batch(2, 40, {3, 41}),                                      // one over three ranks
      random_batch(1, 5, {}), random_batch(1, 5, {2})};                  // parts shorter than the convolution
  expect_equal(batches, 3, torch::kDouble, 1e-10);
  expect_equal({batches[0], batches[1]}, 2, torch::kDouble, 1e-10);
}

// Of one mixer for each way in which ranks depend on each other.
class SomeContextParallel : public ContextParallel {};

// The hand-written kernels.
TEST_P(SomeContextParallel, InFloat32WithinItsRounding) {
  expect_equal({random_batch(2, 150, {100, 120})}, 2, torch::kFloat, 1e-3);
}

TEST_P(SomeContextParallel, WithActivationCheckpointing) {
  expect_equal({random_batch(2, 40, {30})}, 2, torch::kDouble, 1e-10, /*checkpointing=*/true);
}

// Targets on some ranks only, and rows that are right or wrong on several.
TEST(ContextParallelScore, IsThatOfTheWholeBatch) {
  for (const bool few : {false, true}) {
    Batch batch = random_batch(4, 9, {});
    Decoder whole = model_of("kda", torch::kFloat);
    const Tensor answers = whole->forward(batch.inputs).argmax(-1);
    batch.labels.narrow(0, 1, 3).copy_(answers.narrow(0, 1, 3));  // all right but for the first row
    batch.labels.select(0, 3).select(0, 8).copy_((answers[3][8] + 1).remainder(kVocabulary));
    if (few) batch.labels.narrow(0, 0, 3).fill_(-1);
    const Score expected = score_batch(whole, batch, nullptr);
    EXPECT_EQ(expected.sequences_right, few ? 3 : 2);
    on_rank_threads(3, [&](const Ranks& ranks) {
      Decoder model = model_of("kda", torch::kFloat);
      Tensor loss;
      const Score own = score_batch(model, part_of(batch, ranks), &loss);
      loss.backward();  // also where there are no targets
      Score sum;
      for (const Score& score : gather_scores(*ranks, {own})) sum += score;
      EXPECT_EQ(sum.targets, expected.targets);
      EXPECT_EQ(sum.targets_right, expected.targets_right);
      EXPECT_EQ(sum.sequences, expected.sequences);
      EXPECT_EQ(sum.sequences_right, expected.sequences_right);
      EXPECT_NEAR(sum.loss_sum, expected.loss_sum, 1e-4 * expected.loss_sum);
    });
  }
}

std::vector<std::string> patterns() {
  std::vector<std::string> all = mixers().names();
  all.insert(all.end(), {"kda:2+mla:1", "kda, mla_rope", "experts", "wide_values", "grouped_values"});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Mixers, ContextParallel, testing::ValuesIn(patterns()), test_name);
INSTANTIATE_TEST_SUITE_P(Mixers, SomeContextParallel,
                         testing::Values("kda", "mamba2", "rwkv7", "mla_rope", "fox", "kda:2+mla:1"), test_name);

}  // namespace
}  // namespace klab
