// SPDX-License-Identifier: Apache-2.0
// Outcomes and tables of sweeps; tests/experiments/cli runs whole sweeps.
#include "experiments/sweep/sweep.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "core/base/csv.h"
#include "core/base/support.h"
#include "core/base/text.h"

namespace klab {
namespace {

// Runs with these best values of acc_seq; -1: not evaluated. The plan has them in reverse file order.
SweepOutcome outcome_of(const std::vector<double>& best) {
  SweepOutcome outcome;
  outcome.plan.keys = {"train.lr"};
  for (size_t i = 0; i < best.size(); ++i) {
    PlannedRun& run = outcome.plan.runs.emplace_back();
    run.place = static_cast<int64_t>(best.size() - 1 - i);
    run.values = {"value-" + std::to_string(run.place)};
    RunRecord& record = outcome.records.emplace_back();
    record.evaluated = best[i] >= 0;
    if (record.evaluated) record.best = {2.0, 0, best[i]};
  }
  return outcome;
}

// The values of `lr` in the rows of a table, in order.
std::vector<std::string> places_of(const std::string& table) {
  std::vector<std::string> places;
  for (const std::string& line : split(table, '\n')) {
    if (line.starts_with("value-")) places.push_back(line.substr(6, 1));
  }
  return places;
}

using Places = std::vector<std::string>;

TEST(SweepOutcome, IsCompleteWhenEveryRunIsOver) {
  SweepOutcome outcome = outcome_of({0, 0, 0, 0});
  const auto set = [&](std::vector<RunState> states) {
    for (size_t i = 0; i < states.size(); ++i) outcome.records[i].state = states[i];
  };
  set({RunState::finished, RunState::stopped, RunState::diverged, RunState::failed});
  EXPECT_TRUE(outcome.complete());
  EXPECT_EQ(outcome.failures(), 2);
  for (const RunState state : {RunState::waiting, RunState::running, RunState::parked}) {
    outcome.records[0].state = state;
    EXPECT_FALSE(outcome.complete()) << to_string(state);
  }
}

TEST(SweepTable, HasTheFilesOrder) {
  EXPECT_EQ(places_of(table_of(outcome_of({0.1, 0.9, 0.5}), 3)), (Places{"0", "1", "2"}));
}

TEST(SweepTable, ShowsTheBestWhereThereAreMoreRunsThanRows) {
  EXPECT_EQ(places_of(table_of(outcome_of({0.1, 0.9, -1, 0.5}), 2)), (Places{"2", "0"}));
  EXPECT_EQ(places_of(table_of(outcome_of({0.0, 0.9, -1, 0.5}), 3)), (Places{"2", "0", "3"}));
}

TEST(WriteResults, JoinsTheRowsOfManyRuns) {
  const Folder folder;
  const SweepFolder sweep(folder.path());
  SweepOutcome outcome = outcome_of(std::vector<double>(1000, 0.5));
  for (size_t i = 0; i < outcome.plan.runs.size(); ++i) {
    outcome.plan.runs[i].id = std::to_string(i);
    std::filesystem::create_directory(sweep.run(outcome.plan.runs[i].id).path);
    std::ofstream(sweep.run(outcome.plan.runs[i].id).metrics())
        << "# made by\nstep,split\n1,train\n1,validation\n1,test\n";
  }
  const auto begin = std::chrono::steady_clock::now();
  write_results(sweep, outcome, {"a test"});
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  const CsvTable curves = read_csv(sweep.curves());
  EXPECT_EQ(curves.comments, std::vector<std::string>{"a test"});
  EXPECT_EQ(curves.columns, (std::vector<std::string>{"train.lr", "step", "split"}));
  ASSERT_EQ(curves.rows.size(), 2000u);
  EXPECT_EQ(curves.rows[1], (std::vector<std::string>{"value-0", "1", "test"})) << "in the file's order";
  EXPECT_EQ(read_csv(sweep.results()).rows.size(), 1000u);
  EXPECT_FALSE(std::filesystem::exists(sweep.evaluations()));
  EXPECT_EQ(folder.entries(), 1002u) << "no temporary files";
}

TEST(ReadOutcome, RefusesAFolderThatHoldsNoSweep) {
  const Folder folder;
  EXPECT_CONTAINS(message_of<UsageError>([&] { read_outcome(SweepFolder(folder.path())); }), folder.path());
}

}  // namespace
}  // namespace klab
