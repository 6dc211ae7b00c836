// SPDX-License-Identifier: Apache-2.0
#include "experiments/cli/model_memory.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/provenance.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "core/model/accounting.h"
#include "core/train/rank_traffic.h"
#include "experiments/run/run.h"
#include "experiments/run/run_memory.h"

namespace klab {
namespace {

std::string bytes(double count) { return short_count(count) + "B"; }
std::string bytes(int64_t count) { return bytes(static_cast<double>(count)); }

struct RankNeeds {
  RankLayout layout;
  RunMemory memory;
  RankTraffic traffic;
  double flops;  // of a rank in a step: a backward pass takes twice a forward pass
};

RankNeeds needs_of(const RunConfig& config, const RankLayout& layout) {
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const int64_t length = config.task.make()->example(config.train.seed, Split::train, 0).size();
  const double sequences = static_cast<double>(config.train.batch) / static_cast<double>(layout.ranks);
  const double forward = account(make_model(config), length).prefill_flops;
  return {layout, predict_memory(config, layout),
          predict_rank_traffic(config.model, config.vocabulary(), config.train, config.train.batch, length, layout),
          (config.train.activation_checkpointing ? 4 : 3) * forward * sequences};
}

nlohmann::ordered_json json_of(const RankNeeds& one) {
  const StepMemory& step = one.memory.step;
  return {{"ranks", one.layout.ranks},
          {"dp", one.layout.shares()},
          {"cp", one.layout.context},
          {"ep", one.layout.experts},
          {"zero", one.layout.zero ? 1 : 0},
          {"weights", step.weights},
          {"optimizer", step.optimizer},
          {"gradients", step.gradients},
          {"activations", step.activations},
          {"peak", step.peak},
          {"sent_gradients", one.traffic.gradients},
          {"sent_weights", one.traffic.weights},
          {"sent_experts", one.traffic.experts},
          {"sent_context", one.traffic.context},
          {"sent", one.traffic.total()},
          {"flops", one.flops}};
}

CsvTable table_of(const std::vector<RankNeeds>& all) {
  CsvTable table;
  for (const RankNeeds& one : all) {
    table.columns.clear();
    table.rows.emplace_back();
    const nlohmann::ordered_json numbers = json_of(one);
    for (const auto& item : numbers.items()) {
      table.columns.push_back(item.key());
      table.rows.back().push_back(fmt::format("{:.0f}", item.value().get<double>()));
    }
  }
  return table;
}

}  // namespace

int show_memory(const RunConfig& config, bool json) {
  const RunMemory run = predict_memory(config);
  const StepMemory& step = run.step;
  if (json) {
    const nlohmann::ordered_json numbers = {{"parameters", step.parameters},
                                            {"weights", step.weights},
                                            {"optimizer", step.optimizer},
                                            {"gradients", step.gradients},
                                            {"activations", step.activations},
                                            {"step", step.peak},
                                            {"data", run.data},
                                            {"cache", run.cache},
                                            {"program", run.program},
                                            {"peak", run.peak()},
                                            {"train_bytes", run.peak()},
                                            {"sequences", run.shape.sequences},
                                            {"length", run.shape.length}};
    fmt::print("{}\n", numbers.dump(2));
    return 0;
  }
  fmt::print("{}",
             format_table({fmt::format("training steps of {} x {} tokens", run.shape.sequences, run.shape.length), ""},
                          {{"weights", bytes(step.weights)},
                           {"optimiser's state", bytes(step.optimizer)},
                           {"gradients, after the backward pass", bytes(step.gradients)},
                           {"activations, after the forward pass", bytes(step.activations)},
                           {"tensors at the peak of a step", bytes(step.peak)},
                           {"data", bytes(run.data)},
                           {"freed memory that is kept", bytes(run.cache)},
                           {"program", bytes(run.program)},
                           {"memory of the run", bytes(run.peak())}}));
  return 0;
}

int show_ranks(const RunConfig& config, const std::vector<int64_t>& ranks, bool json, const Globals& globals) {
  std::vector<RankNeeds> all;
  for (const int64_t count : ranks) {
    RankLayout layout = globals.layout;
    layout.ranks = count;
    layout.validate();
    all.push_back(needs_of(config, layout));
  }
  if (!globals.out.empty()) {
    CsvTable table = table_of(all);
    table.comments = provenance(globals.command_line, at::get_num_threads());
    write_file(globals.out, table.text());
  }
  if (json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const RankNeeds& one : all) list.push_back(json_of(one));
    fmt::print("{}\n", list.dump(2));
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const RankNeeds& one : all) {
    const StepMemory& step = one.memory.step;
    const RankTraffic& sent = one.traffic;
    rows.push_back({fmt::format("{}", one.layout.ranks),
                    fmt::format("{} x {}", one.memory.shape.sequences, one.memory.shape.length), bytes(step.weights),
                    bytes(step.optimizer), bytes(step.gradients), bytes(step.activations), bytes(step.peak),
                    bytes(sent.gradients + sent.weights), bytes(sent.experts), bytes(sent.context),
                    short_count(one.flops)});
  }
  fmt::print("{}", format_table({"ranks", "tokens at once", "weights", "optimiser", "gradients", "activations",
                                 "peak of a step", "sent: gradients, weights", "to experts", "context", "FLOPs"},
                                rows));
  fmt::print("Predicted by a model, for each rank and a step of {} sequences.\n", config.train.batch);
  return 0;
}

}  // namespace klab
