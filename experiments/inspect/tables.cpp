// SPDX-License-Identifier: Apache-2.0
#include "experiments/inspect/tables.h"

#include <torch/nn/module.h>

namespace klab {
namespace {

using torch::Tensor;

std::string text(int64_t value) { return fmt::format("{}", value); }
std::string text(double value) { return fmt::format("{:.9g}", value); }

// The first cells of a mixer's rows.
std::vector<std::string> place(const MixerView& view) {
  return {text(view.layer), view.part < 0 ? "" : text(view.part), view.mixer};
}

NamedTable half_lives(const Inspection& found, const std::vector<std::string>& provenance) {
  CsvTable table{provenance, {"layer", "part", "mixer", "head", "channel", "mean_g", "half_life", "resets"}, {}};
  for (const MixerView& view : found.mixers) {
    if (!view.linear) continue;
    const auto mean = view.decays.mean_g.accessor<double, 2>(), half = view.decays.half_life.accessor<double, 2>(),
               resets = view.decays.resets.accessor<double, 2>();
    for (int64_t head = 0; head < half.size(0); ++head) {
      for (int64_t channel = 0; channel < half.size(1); ++channel) {
        std::vector<std::string> row = place(view);
        row.insert(row.end(), {text(head), text(channel), text(mean[head][channel]), text(half[head][channel]),
                               text(resets[head][channel])});
        table.rows.push_back(std::move(row));
      }
    }
  }
  return {"half_life.csv", table};
}

NamedTable ranks(const Inspection& found, const std::vector<std::string>& provenance) {
  CsvTable table{provenance, {"layer", "part", "mixer", "head", "tokens", "example", "effective_rank"}, {}};
  for (const MixerView& view : found.mixers) {
    if (!view.linear) continue;
    const auto rank = view.ranks.accessor<double, 3>();  // [E, HV, P]
    for (int64_t head = 0; head < rank.size(1); ++head) {
      for (int64_t p = 0; p < rank.size(2); ++p) {
        for (int64_t e = 0; e < rank.size(0); ++e) {
          std::vector<std::string> row = place(view);
          row.insert(row.end(),
                     {text(head), text(found.rank_tokens[static_cast<size_t>(p)]), text(e), text(rank[e][head][p])});
          table.rows.push_back(std::move(row));
        }
      }
    }
  }
  return {"effective_rank.csv", table};
}

// A row per head and reading token; cells of later tokens stay empty.
NamedTable weights(const MixerView& view, const DrawnExample& drawn, const std::vector<std::string>& provenance) {
  const Tensor wide = view.weights.to(torch::kDouble).contiguous();
  const auto weight = wide.accessor<double, 3>();
  CsvTable table{provenance, {"head", "position", "token"}, {}};
  for (int64_t s = 0; s < weight.size(2); ++s) table.columns.push_back(fmt::format("of_{}", s));
  for (int64_t head = 0; head < weight.size(0); ++head) {
    for (int64_t t = 0; t < weight.size(1); ++t) {
      std::vector<std::string> row{text(head), text(t), drawn.names[static_cast<size_t>(t)]};
      for (int64_t s = 0; s < weight.size(2); ++s)
        row.push_back(s <= t ? fmt::format("{:.6g}", weight[head][t][s]) : "");
      table.rows.push_back(std::move(row));
    }
  }
  return {fmt::format("weights_{}.csv", view.stem()), table};
}

NamedTable accuracy(const Evaluation& of, const std::vector<std::string>& provenance) {
  CsvTable table{provenance, {"measure", "difficulty", "targets", "loss", "acc_tok", "acc_seq"}, {}};
  const auto row = [&](const std::string& measure, const std::string& difficulty, const Score& score,
                       const std::string& acc_seq) {
    table.rows.push_back({measure, difficulty, text(score.targets), fmt::format("{:.6f}", score.loss()),
                          fmt::format("{:.6f}", score.acc_tok()), acc_seq});
  };
  row(of.measure, "all", of.all, fmt::format("{:.6f}", of.all.acc_seq()));
  for (const auto& [difficulty, score] : of.slices) row(of.measure, text(difficulty), score, "");
  for (const auto& [position, score] : of.positions) row("position", text(position), score, "");
  return {"accuracy.csv", table};
}

NamedTable drawn_example(const DrawnExample& drawn, const std::vector<std::string>& provenance) {
  CsvTable table{provenance, {"position", "id", "token", "target", "predicted", "probability_of_target"}, {}};
  for (size_t t = 0; t < drawn.inputs.size(); ++t) {
    table.rows.push_back(
        {text(static_cast<int64_t>(t)), text(drawn.inputs[t]), drawn.names[t], drawn.target_names[t], "", ""});
  }
  for (size_t i = 0; i < drawn.answers.size(); ++i) {
    std::vector<std::string>& row = table.rows[static_cast<size_t>(drawn.answers[i].position)];
    row[4] = drawn.predicted_names[i];
    row[5] = text(drawn.answers[i].probability);
  }
  return {"example.csv", table};
}

NamedTable answers(const std::vector<LoggedAnswer>& all, const std::vector<std::string>& provenance) {
  NamedTable table{"answers.csv", {provenance, {"step", "split", "prompt", "reference", "answer", "reward"}, {}}};
  for (const LoggedAnswer& one : all) {
    table.table.rows.push_back(
        {fmt::format("{}", one.step), one.split, one.prompt, one.reference, one.answer, text(one.reward)});
  }
  return table;
}

}  // namespace

std::vector<NamedTable> inspection_tables(const Inspection& found, const std::vector<std::string>& provenance) {
  std::vector<NamedTable> all{accuracy(found.accuracy, provenance), drawn_example(found.drawn, provenance)};
  if (found.any_linear()) {
    all.push_back(half_lives(found, provenance));
    all.push_back(ranks(found, provenance));
  }
  if (!found.answers.empty()) all.push_back(answers(found.answers, provenance));
  for (const MixerView& view : found.mixers) all.push_back(weights(view, found.drawn, provenance));
  return all;
}

}  // namespace klab
