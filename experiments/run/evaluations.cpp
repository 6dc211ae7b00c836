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
namespace {

using Slices = std::vector<std::pair<int64_t, Score>>;

bool is_language(const Batch& batch) { return batch.starts.defined() || batch.surprisal.defined(); }

// [B, T] int64: each position's number in its sequence.
torch::Tensor positions_of(const Batch& batch) {
  const torch::Tensor places = torch::arange(batch.inputs.size(1)).expand_as(batch.inputs);
  if (!batch.starts.defined()) return places;
  return places - std::get<0>((places * batch.starts).cummax(1));
}

Slices sliced(const std::map<int64_t, Score>& scores) {
  const int64_t hardest = scores.empty() ? 0 : scores.rbegin()->first;
  std::map<int64_t, Score> slices;
  for (const auto& [difficulty, score] : scores) slices[slice_of(difficulty, hardest)] += score;
  return {slices.begin(), slices.end()};
}

}  // namespace

Evaluation evaluate_variant(const TaskVariant& variant, const RunConfig& config, Decoder& model,
                            const torch::Device& device, Split split) {
  Evaluation result{variant.name, variant.task.length, variant.task.make()->difficulty_name(), {}, {}};
  std::map<int64_t, Score> by_difficulty, by_position;
  for (const Batch& batch :
       held_out_batches(variant.task, config.train.seed, config.test.examples, config.train.batch, split)) {
    if (const int signal = interrupt_requested()) throw Interrupted(signal, "interrupted while testing variants");
    const Batch there = batch.map([&](const torch::Tensor& x) { return x.to(device); });
    std::vector<Slicing> slicings{{there.difficulty, &by_difficulty}};
    if (is_language(batch)) slicings.push_back({positions_of(batch).to(device), &by_position});
    result.all += score_batch(model, there, nullptr, slicings);
  }
  result.slices = sliced(by_difficulty);
  result.positions = sliced(by_position);
  return result;
}

std::vector<Evaluation> evaluate_variants(const RunConfig& config, Decoder& model, const torch::Device& device) {
  const torch::NoGradGuard no_grad;
  std::vector<Evaluation> all{evaluate_variant({"", config.task}, config, model, device)};
  for (const TaskVariant& variant : config.tested_variants())
    all.push_back(evaluate_variant(variant, config, model, device));
  return all;
}

void write_evaluations(const RunConfig& config, Decoder& model, const torch::Device& device, const RunFolder& folder,
                       const std::vector<std::string>& provenance) {
  if (config.test.also.empty() && !is_language(batch_source(config.task, config.train.seed, 1, Split::test)(0))) return;
  CsvTable table{provenance,
                 {"variant", "length", "measure", "difficulty", "targets", "loss", "acc_tok", "acc_seq", "excess",
                  "bits_per_byte"},
                 {}};
  const auto row = [&](const Evaluation& of, const std::string& measure, const std::string& difficulty,
                       const Score& score) {
    table.rows.push_back({of.variant, fmt::format("{}", of.length), measure, difficulty,
                          fmt::format("{}", score.targets), fmt::format("{:.6f}", score.loss()),
                          fmt::format("{:.6f}", score.acc_tok()),
                          score.sequences > 0 ? fmt::format("{:.6f}", score.acc_seq()) : "",
                          score.surprisal_sum > 0 ? fmt::format("{:.6f}", score.excess()) : "",
                          score.bytes > 0 ? fmt::format("{:.6f}", score.bits_per_byte()) : ""});
  };
  for (const Evaluation& of : evaluate_variants(config, model, device)) {
    row(of, of.measure, "all", of.all);
    for (const auto& [difficulty, score] : of.slices) row(of, of.measure, fmt::format("{}", difficulty), score);
    for (const auto& [position, score] : of.positions) row(of, "position", fmt::format("{}", position), score);
  }
  if (!folder.path.empty()) write_file(folder.path + "/evaluations.csv", table.text());
}

}  // namespace klab
