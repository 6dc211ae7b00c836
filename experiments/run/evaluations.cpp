// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/evaluations.h"

#include <torch/nn/module.h>

#include <algorithm>
#include <map>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "experiments/run/run.h"

namespace klab {
Evaluation evaluate_variant(const TaskVariant& variant, const RunConfig& config, Decoder& model,
                            const torch::Device& device, Split split) {
  Evaluation result{variant.name, variant.task.length, variant.task.make()->difficulty_name(), {}, {}};
  std::map<int64_t, Score> by_difficulty;
  for (const Batch& batch :
       held_out_batches(variant.task, config.train.seed, config.test.examples, config.train.batch, split)) {
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while testing variants");
    const Batch there{batch.inputs.to(device), batch.labels.to(device), batch.difficulty.to(device)};
    result.all += score_batch(model, there, nullptr, &by_difficulty);
  }
  const int64_t hardest = by_difficulty.empty() ? 0 : by_difficulty.rbegin()->first;
  std::map<int64_t, Score> slices;
  for (const auto& [difficulty, score] : by_difficulty) slices[slice_of(difficulty, hardest)] += score;
  result.slices.assign(slices.begin(), slices.end());
  return result;
}

std::vector<Evaluation> evaluate_variants(const RunConfig& config, Decoder& model, const torch::Device& device) {
  const torch::NoGradGuard no_grad;
  std::vector<Evaluation> all{evaluate_variant({"", config.task}, config, model, device)};
  for (const TaskVariant& variant : config.tested_variants())
    all.push_back(evaluate_variant(variant, config, model, device));
  return all;
}

void write_evaluations(const RunConfig& config, Trainer& trainer, const RunFolder& folder,
                       const std::vector<std::string>& provenance) {
  if (config.test.also.empty()) return;
  CsvTable table{
      provenance, {"variant", "length", "measure", "difficulty", "targets", "loss", "acc_tok", "acc_seq"}, {}};
  const auto row = [&](const Evaluation& of, const std::string& difficulty, const Score& score,
                       const std::string& acc_seq) {
    table.rows.push_back({of.variant, fmt::format("{}", of.length), of.measure, difficulty,
                          fmt::format("{}", score.targets), fmt::format("{:.6f}", score.loss()),
                          fmt::format("{:.6f}", score.acc_tok()), acc_seq});
  };
  for (const Evaluation& of : evaluate_variants(config, trainer.model(), trainer.device())) {
    row(of, "all", of.all, fmt::format("{:.6f}", of.all.acc_seq()));
    for (const auto& [difficulty, score] : of.slices) row(of, fmt::format("{}", difficulty), score, "");
  }
  write_file(folder.path + "/evaluations.csv", table.text());
}

}  // namespace klab
