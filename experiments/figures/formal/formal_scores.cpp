// SPDX-License-Identifier: Apache-2.0
#include "experiments/figures/formal/formal_scores.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "core/base/error.h"
#include "tasks/group.h"

namespace klab {
namespace {

int64_t number_of(const RunSummary& run, const std::string& key) { return run.field(key).get<int64_t>(); }

// The trained length, then those of test.also, which keep it unless they say otherwise.
std::vector<int64_t> lengths_of(const RunSummary& run) {
  std::vector<int64_t> lengths{number_of(run, "task.length")};
  for (const Value& variant : run.field("test.also")) {
    if (variant.contains("length")) lengths.push_back(std::stoll(text_of(variant["length"])));
  }
  return lengths;
}

// Over all difficulties, by length.
std::map<int64_t, double> evaluated_accuracies(const RunSummary& run) {
  std::map<int64_t, double> accuracies;
  const std::string file = run.folder + "/evaluations.csv";
  if (!std::filesystem::exists(file)) return accuracies;
  const CsvTable table = read_csv(file);
  const size_t length = table.column("length"), difficulty = table.column("difficulty"),
               accuracy = table.column("acc_tok");
  for (const auto& row : table.rows) {
    if (row[difficulty] == "all") accuracies[std::stoll(row[length])] = std::stod(row[accuracy]);
  }
  return accuracies;
}

std::vector<TaskScore> scores_of(const std::string& mixer, const std::string& task,
                                 const std::vector<const RunSummary*>& runs) {
  const std::vector<int64_t> lengths = lengths_of(*runs.front());
  const double chance = chance_of(*runs.front());
  std::vector<TaskScore> scores;
  for (const int64_t length : lengths) {
    const double times = static_cast<double>(length) / static_cast<double>(lengths.front());
    scores.push_back({mixer, task, fmt::format("{:g}x", times), chance, {}});
  }
  for (const RunSummary* run : runs) {
    const std::map<int64_t, double> accuracies = evaluated_accuracies(*run);
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto found = accuracies.find(lengths[i]);
      if (found != accuracies.end()) {
        scores[i].seeds.emplace_back(number_of(*run, "train.seed"), found->second);
      } else if (run->record.state == RunState::diverged) {
        scores[i].seeds.emplace_back(number_of(*run, "train.seed"), chance);
      }
    }
  }
  return scores;
}

const TaskScore* find_score(const std::vector<TaskScore>& scores, const std::string& mixer, const TaskScore& beside) {
  for (const TaskScore& score : scores) {
    if (score.mixer == mixer && score.task == beside.task && score.length == beside.length) return &score;
  }
  return nullptr;
}

// A claim on one task at one length.
struct LongerClaim {
  Claim claim;
  std::string task, length;
  Comparison comparison;
};

std::vector<LongerClaim> longer_claims(const std::vector<TaskScore>& scores, const StudyConfig& config) {
  std::vector<LongerClaim> all;
  for (const Claim& claim : config.claim_list()) {
    for (const TaskScore& score : scores) {
      if (score.mixer != claim.better || score.length == "1x") continue;
      const TaskScore* than = find_score(scores, claim.than, score);
      const std::vector<double> other = than == nullptr ? std::vector<double>{} : than->accuracies();
      all.push_back({claim, score.task, score.length, {config.primary(), score.accuracies(), other, {}, {}}});
    }
  }
  return all;
}

std::string verdict_row(const LongerClaim& one, const Judgement& judgement) {
  const std::string effect =
      judgement.verdict == Verdict::not_measured ? "-" : fmt::format("{:+.1f}", 100 * judgement.effect);
  return fmt::format("| {} | {} | {} | {} | {} |", one.claim.text(), one.task, one.length, effect,
                     verdict_text(judgement, one.comparison.question));
}

}  // namespace

double chance_of(const RunSummary& run) {
  const std::string task = text_of(run.field("task.name"));
  const auto option = [&](const char* key) { return number_of(run, "task." + task + "." + key); };
  double answers = 0;
  if (task == "state_tracking") {
    answers = static_cast<double>(make_group(text_of(run.field("task.state_tracking.group"))).order());
  } else if (task == "modular_arithmetic") {
    answers = static_cast<double>(option("modulus"));
  } else if (task == "cycle_navigation") {
    answers = static_cast<double>(option("cycle"));
  } else if (task == "dyck") {
    answers = static_cast<double>(option("kinds") + 1);  // a closing bracket of any kind, or none
  } else {
    fail("the accuracy of a guess is not known for the task {}", task);
  }
  return 1 / answers;
}

std::vector<TaskScore> formal_scores(const std::vector<StudyCell>& cells) {
  std::vector<TaskScore> all;
  for (const StudyCell& cell : cells) {
    for (const auto& [mixer, runs] : cell.runs) {
      const std::vector<TaskScore> scores = scores_of(mixer, short_text(cell.values), runs);
      all.insert(all.end(), scores.begin(), scores.end());
    }
  }
  return all;
}

std::vector<std::string> longer_verdicts(const std::vector<TaskScore>& scores, const StudyConfig& config) {
  const std::vector<LongerClaim> claims = longer_claims(scores, config);
  if (claims.empty()) return {};
  std::vector<Comparison> family;
  for (const LongerClaim& one : claims) family.push_back(one.comparison);
  const std::vector<Judgement> judgements = judge(family);
  std::vector<std::string> lines{"| claim | task | length | difference in points | verdict |", "|---|---|---|---|---|"};
  for (size_t i = 0; i < claims.size(); ++i) lines.push_back(verdict_row(claims[i], judgements[i]));
  return lines;
}

}  // namespace klab
