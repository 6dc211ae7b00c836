// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/record.h"

#include <array>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/text.h"

namespace klab {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 7> kStates = {"waiting", "running",  "parked", "finished",
                                                "stopped", "diverged", "failed"};

std::string json_text(const RunRecord& record) {
  nlohmann::ordered_json json{{"state", to_string(record.state)}};
  json.update(to_object(record));
  return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// Records of earlier versions have no test results.
void add_missing_test(nlohmann::ordered_json& json) {
  const auto record = to_object(RunRecord{});  // outlives the loop over its items
  for (const auto& [name, value] : record.items()) {
    if (name == "tested" || name == "best_step" || name.find("test_") != std::string::npos) json[name] = value;
  }
}

}  // namespace

std::string to_string(RunState state) { return kStates.at(static_cast<size_t>(state)); }

RunState run_state_of(const std::string& word) {
  for (size_t i = 0; i < kStates.size(); ++i) {
    if (word == kStates[i]) return static_cast<RunState>(i);
  }
  fail("'{}' is not a state of a run", word);
}

void RunRecord::set(const TrainStatus& status) {
  step = status.step;
  tokens_per_second = status.tokens_per_second;
  seconds = status.seconds;
  evaluated = status.validation.targets > 0;
  if (!evaluated) return;
  last = status.validation.metrics();
  best = status.best.targets > 0 ? status.best.metrics() : last;
  best_step = status.best.targets > 0 ? status.best_step : status.step;
}

void RunRecord::set(const TestScores& scores) {
  tested = true;
  test = scores.last.metrics();
  best_test = scores.best.metrics();
}

RunRecord read_record(const RunFolder& folder) {
  const std::string path = folder.record();
  RunRecord record;
  if (!fs::exists(path)) return record;
  const std::string text = read_file(path);
  if (text.empty()) return record;  // lost in a power failure; checkpoint and metrics.csv are flushed
  auto json = parse_json(text, path);
  if (json.is_object() && !json.contains("tested")) add_missing_test(json);
  try {
    record.state = run_state_of(json.at("state").get<std::string>());
    from_object(json, record);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not the record of a run: {}", path, error.what());
  }
  return record;
}

void write_record(const RunFolder& folder, const RunRecord& record) {
  NewFile file(folder.record());
  file.write(json_text(record));
  is_over(record.state) ? file.commit() : file.commit_unsynced();
}

double metric_of(const RunRecord& record, const std::string& name) {
  std::vector<std::string> names;
  double found = 0;
  bool known = false;
  RunRecord::each_field(record, [&](const char* member_name, const auto& member) {
    using Member = std::decay_t<decltype(member)>;
    if constexpr (std::is_same_v<Member, double> || std::is_same_v<Member, int64_t>) {
      names.emplace_back(member_name);
      if (name != member_name) return;
      found = static_cast<double>(member);
      known = true;
    }
  });
  if (name.find("test_") != std::string::npos && known && !record.tested) {
    fail("the run has no test results ({}): it has not ended, or an earlier version of klab made it", name);
  }
  if (!known) refuse("'{}' is not a metric of a run{}. Known: {}", name, did_you_mean(name, names), join(names));
  return found;
}

}  // namespace klab
