// SPDX-License-Identifier: Apache-2.0
// A model that trains in milliseconds, and a task for it: predict the preceding token.
#pragma once

#include <torch/types.h>

#include <map>
#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/train/batch_stream.h"
#include "core/train/trainer.h"

namespace klab {

constexpr int64_t kTinyVocabulary = 6;

/// One layer, whose mixer is a linear map of the preceding token. Parameters are zero until Trainer initialises them.
Decoder tiny_model(int64_t width = 8, int64_t vocabulary = kTinyVocabulary);

/// Two such layers with mixtures of six experts, of which a token uses two, spread over `ranks` if there are several.
Decoder tiny_model_with_experts(const std::shared_ptr<RankGroup>& ranks = nullptr);

/// Batches of random tokens, a pure function of seed and index. The target of every token except the first is
/// the preceding token plus `shift`, modulo the vocabulary.
BatchSource previous_token_task(uint64_t seed, int64_t shift = 0, int64_t batch = 8, int64_t length = 6);

/// A run of the tiny model; members may be changed before trainer() builds it.
struct TinyRun {
  TinyRun();
  Trainer trainer(const std::string& folder, bool resume = false) const;
  std::vector<Batch> validation() const { return batches_of(2, config.eval_examples / 8); }
  static std::vector<Batch> batches_of(uint64_t seed, int64_t count);
  /// From this step on the task is another one than that of the validation data.
  void unlearn_from(int64_t step);

  TrainConfig config;
  BatchSource train = previous_token_task(1);
};

/// For Trainer::run: to the end, or until a step.
Next go_on(const TrainStatus& status, bool evaluated);
std::function<Next(const TrainStatus&, bool)> stop_after(int64_t step);

/// Copies of the parameters, and a comparison of named tensors bit by bit.
std::map<std::string, torch::Tensor> parameters_of(Trainer& trainer);
void expect_same_bits(const std::map<std::string, torch::Tensor>& a, const std::map<std::string, torch::Tensor>& b);

/// The rows of metrics.csv without the columns that depend on time.
std::vector<std::string> timeless_rows(const RunFolder& folder);

int64_t step_of(const std::string& checkpoint);

}  // namespace klab
