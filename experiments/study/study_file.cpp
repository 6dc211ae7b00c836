// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/study_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/table.h"
#include "core/base/text.h"
#include "core/base/yaml.h"
#include "experiments/sweep/builtin_sweeps.h"

namespace klab {
namespace {

const std::vector<std::string> kTestMetrics = {"test_acc_tok",      "test_acc_seq",      "test_loss",
                                               "best_test_acc_tok", "best_test_acc_seq", "best_test_loss"};

bool is_loss(const std::string& metric) { return metric.ends_with("loss"); }

// With a misspelt value the study would run in vain.
void check_claims(const StudyFile& file) {
  std::vector<std::string> values;
  for (const RunConfig& config : file.search.configs) {
    const std::string value = bare_list(text_of(Fields::of(config).find(file.study.compare)->get()));
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  for (const Claim& claim : file.study.claim_list()) {
    for (const std::string& value : {bare_list(claim.better), bare_list(claim.than)}) {
      if (std::find(values.begin(), values.end(), value) != values.end()) continue;
      refuse("{}: study.claims: no run has {} = {}. There are: {}", file.name, file.study.compare, value,
             join(values, "; "));
    }
  }
}

// The text with a section `overrides`, so that it says all that was run.
std::string with_overrides(std::string text, const std::vector<Assignment>& overrides) {
  if (!overrides.empty()) text += "overrides:\n";
  for (const Assignment& one : overrides) text += fmt::format("  {}: {}\n", one.key, yaml_flow(one.value));
  return text;
}

StudyFile study_of(const std::string& name, const std::string& text, Sweep sweep) {
  StudyFile file{name, text, {}, std::move(sweep)};
  if (file.search.study.empty()) refuse("{}: a study needs a section `study` with at least `claims`", name);
  assign(file.study, file.search.study);
  if (file.study.claim_list().empty()) refuse("{}: study.claims: there is nothing to compare", name);
  std::vector<std::string> keys = file.study.cells;
  keys.insert(keys.end(), {file.study.compare, file.study.choose});
  for (const std::string& key : keys) {
    const bool known = std::all_of(file.search.configs.begin(), file.search.configs.end(),
                                   [&](const RunConfig& config) { return Fields::of(config).find(key) != nullptr; });
    if (!known) refuse("{}: study: '{}' is not a key of all runs", name, key);
  }
  check_claims(file);
  return file;
}

}  // namespace

void StudyConfig::visit(Fields& fields) {
  fields("question", question, "the question in words");
  fields.maps("claims", claims, "what is claimed: [{better: kda, than: gdn}, ..], values of the key `compare`");
  fields("compare", compare, "the key whose values are compared");
  fields("cells", cells, "keys; every claim is judged in every combination of their values");
  fields("choose", choose, "the key that is chosen for each cell and compared value, by the search");
  fields.choice("choose_by", choose_by, {"best_acc_tok", "best_acc_seq", "best_loss", "acc_tok", "acc_seq", "loss"},
                "the result on validation data by which it is chosen");
  fields("seeds", seeds, {2, 1000}, "new seeds for each cell and compared value");
  fields.choice("metric", metric, kTestMetrics, "the primary outcome, on test data");
  fields("margin", margin, {0, 1e6}, "differences below it do not matter; 0: equality is not asked");
  fields.choice("assume", assume, {"shift", "bounded"},
                "of equality: shift: the distributions over seeds differ by a shift, so that a failure that no seed "
                "showed is not excluded; bounded: nothing, which takes some 50 seeds");
  fields("paired", paired, "compare seed by seed");
  fields("alpha", alpha, {0, 0.5, Ends::above_least}, "probability of any wrong verdict in the study");
  fields("solved_at", solved_at, {0, 1}, "best_test_acc_seq from which a run counts as solved");
  fields.choice("reach", reach, {"acc_tok", "acc_seq"}, "the validation metric whose steps to `reach_at` are compared");
  fields("reach_at", reach_at, {0, 1}, "its threshold");
}

std::vector<Claim> StudyConfig::claim_list() const {
  std::vector<Claim> list;
  for (const Value& map : claims) {
    for (const auto& [key, value] : map.items()) {
      if (key != "better" && key != "than") refuse("study.claims: unknown key '{}': must be better or than", key);
    }
    if (!map.contains("better") || !map.contains("than")) {
      refuse("study.claims: {} must have the keys better and than", map.dump());
    }
    list.push_back({text_of(map["better"]), text_of(map["than"])});
  }
  return list;
}

Question StudyConfig::primary() const {
  Question asked;
  asked.direction = is_loss(metric) ? Direction::less : Direction::greater;
  asked.alpha = alpha;
  asked.margin = margin;
  asked.paired = paired;
  if (is_loss(metric)) asked.unit = {"nats", 1};
  if (assume == "shift" || is_loss(metric)) asked.range = std::nullopt;
  return asked;
}

StudyFile read_study(const std::string& path, const std::vector<Assignment>& overrides) {
  const std::string text = with_overrides(read_file(path), overrides);
  return study_of(std::filesystem::path(path).stem().string(), text, parse_sweep(text, path));
}

StudyFile read_builtin_study(const std::string& name, const std::vector<Assignment>& overrides) {
  const std::string text = with_overrides(std::string(builtin_sweep(name)), overrides);
  return study_of(name, text, parse_sweep(text, name));
}

}  // namespace klab
