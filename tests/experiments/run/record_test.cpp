// SPDX-License-Identifier: Apache-2.0
#include "experiments/run/record.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

RunRecord full_record() {
  RunRecord record;
  record.state = RunState::diverged;
  record.reason = "the loss became nan at step 7";
  record.step = 6;
  record.evaluated = true;
  record.last = {0.1 + 0.2, 0.5, 0.25};
  record.best = {0.125, 0.75, 0.5};
  record.best_step = 4;
  record.tested = true;
  record.test = {0.3, 0.6, 0.4};
  record.best_test = {0.2, 0.7, 0.45};
  record.parameters = 123456789012;
  record.state_bytes = 4096;
  record.tokens_per_second = 1e5 / 3;
  record.seconds = 0.7;
  record.provenance = {"command: ./klab train", "commit: abc"};
  return record;
}

TEST(Record, IsReadBackExactly) {
  const Folder folder;
  const RunRecord written = full_record();
  write_record({folder.path()}, written);
  const RunRecord read = read_record({folder.path()});
  EXPECT_EQ(read.state, written.state);
  EXPECT_EQ(read.reason, written.reason);
  EXPECT_EQ(read.step, written.step);
  EXPECT_EQ(read.evaluated, written.evaluated);
  EXPECT_EQ(read.last.loss, written.last.loss);
  EXPECT_EQ(read.last.acc_tok, written.last.acc_tok);
  EXPECT_EQ(read.last.acc_seq, written.last.acc_seq);
  EXPECT_EQ(read.best.loss, written.best.loss);
  EXPECT_EQ(read.best.acc_tok, written.best.acc_tok);
  EXPECT_EQ(read.best.acc_seq, written.best.acc_seq);
  EXPECT_EQ(read.best_step, written.best_step);
  EXPECT_EQ(read.tested, written.tested);
  EXPECT_EQ(read.test.loss, written.test.loss);
  EXPECT_EQ(read.test.acc_seq, written.test.acc_seq);
  EXPECT_EQ(read.best_test.acc_tok, written.best_test.acc_tok);
  EXPECT_EQ(read.parameters, written.parameters);
  EXPECT_EQ(read.state_bytes, written.state_bytes);
  EXPECT_EQ(read.tokens_per_second, written.tokens_per_second);
  EXPECT_EQ(read.seconds, written.seconds);
  EXPECT_EQ(read.provenance, written.provenance);
}

TEST(Record, NoFileMeansThatTheRunHasNotBegun) {
  const Folder folder;
  EXPECT_EQ(read_record({folder.path()}).state, RunState::waiting);
  write_file(folder / "record.json", "");  // the content was lost in a power failure
  EXPECT_EQ(read_record({folder.path()}).state, RunState::waiting);
}

TEST(Record, ReplacesTheOneBeforeAndLeavesNoOtherFile) {
  const Folder folder;
  RunRecord record = full_record();
  for (const RunState state : {RunState::running, RunState::parked, RunState::finished}) {
    record.state = state;
    write_record({folder.path()}, record);
    EXPECT_EQ(read_record({folder.path()}).state, state);
  }
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    EXPECT_EQ(entry.path().filename(), "record.json");
  }
}

TEST(Record, AFileThatIsNoneIsRefusedByName) {
  const Folder folder;
  for (const char* text : {"{", "[]", R"({"state": "running"})", R"({"state": "asleep"})", "7"}) {
    write_file(folder / "record.json", text);
    const std::string message = message_of<Error>([&] { read_record({folder.path()}); });
    EXPECT_TRUE(contains(message, "record.json") || contains(message, "asleep")) << message;
  }
}

TEST(Record, StatesHaveNames) {
  for (const RunState state : {RunState::waiting, RunState::running, RunState::parked, RunState::finished,
                               RunState::stopped, RunState::diverged, RunState::failed}) {
    EXPECT_EQ(run_state_of(to_string(state)), state);
  }
  EXPECT_EQ(to_string(RunState::diverged), "diverged");
  EXPECT_FALSE(is_over(RunState::parked));
  EXPECT_TRUE(is_over(RunState::finished));
}

TEST(Record, TakesTheScoresOfATrainer) {
  TrainStatus status;
  status.step = 3;
  status.seconds = 1.5;
  RunRecord record;
  record.set(status);
  EXPECT_EQ(record.step, 3);
  EXPECT_FALSE(record.evaluated);
  status.validation = {.loss_sum = 8, .targets = 4, .targets_right = 3, .sequences = 2, .sequences_right = 1};
  record.set(status);
  EXPECT_TRUE(record.evaluated);
  EXPECT_EQ(record.last.loss, 2);
  EXPECT_EQ(record.best.loss, 2) << "the only evaluation is the best one";
  status.best = {.loss_sum = 4, .targets = 4, .targets_right = 4, .sequences = 2, .sequences_right = 2};
  record.set(status);
  EXPECT_EQ(record.last.acc_tok, 0.75);
  EXPECT_EQ(record.best.acc_seq, 1);
  EXPECT_FALSE(record.tested);
  record.set(TestScores{.last = status.validation, .best = status.best});
  EXPECT_TRUE(record.tested);
  EXPECT_EQ(record.test.loss, 2);
  EXPECT_EQ(record.best_test.loss, 1);
}

TEST(Record, OfAnEarlierVersionHasNoTest) {
  const Folder folder;
  RunRecord record = full_record();
  record.tested = false;
  write_record({folder.path()}, record);
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(read_file(folder / "record.json"));
  for (const char* name : {"best_step", "tested", "test_loss", "test_acc_tok", "test_acc_seq", "best_test_loss",
                           "best_test_acc_tok", "best_test_acc_seq"}) {
    ASSERT_EQ(json.erase(name), 1u) << name;
  }
  write_file(folder / "record.json", json.dump());
  const RunRecord old = read_record({folder.path()});
  EXPECT_EQ(old.best.acc_seq, record.best.acc_seq);
  EXPECT_CONTAINS(message_of<Error>([&] { metric_of(old, "test_acc_seq"); }), "no test results");
}

TEST(Metric, IsFoundByItsColumn) {
  const RunRecord record = full_record();
  EXPECT_EQ(metric_of(record, "acc_seq"), 0.25);
  EXPECT_EQ(metric_of(record, "best_acc_seq"), 0.5);
  EXPECT_EQ(metric_of(record, "best_loss"), 0.125);
  EXPECT_EQ(metric_of(record, "step"), 6);
  EXPECT_EQ(metric_of(record, "test_acc_tok"), 0.6);
  EXPECT_EQ(metric_of(record, "best_test_acc_seq"), 0.45);
  EXPECT_EQ(metric_of(record, "parameters"), 123456789012);
  const std::string message = message_of<UsageError>([&] { metric_of(record, "best_acc_sec"); });
  EXPECT_CONTAINS(message, "'best_acc_sec' is not a metric of a run; did you mean 'best_acc_seq'?");
  EXPECT_THROW(metric_of(record, "reason"), UsageError);
}

TEST(Better, RanksBySequencesThenByLoss) {
  const Metrics base{.loss = 1, .acc_tok = 0.5, .acc_seq = 0.5};
  EXPECT_TRUE(better({.loss = 2, .acc_tok = 0.1, .acc_seq = 0.6}, base));
  EXPECT_TRUE(better({.loss = 0.9, .acc_tok = 0.1, .acc_seq = 0.5}, base));
  EXPECT_FALSE(better(base, base));
  EXPECT_FALSE(better({.loss = 0.1, .acc_tok = 0.9, .acc_seq = 0.4}, base));
  EXPECT_TRUE(better("best_acc_tok", 0.6, 0.5));
  EXPECT_TRUE(better("loss", 0.4, 0.5));
  EXPECT_FALSE(better("best_loss", 0.5, 0.5));
}

}  // namespace
}  // namespace klab
