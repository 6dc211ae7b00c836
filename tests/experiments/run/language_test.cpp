// SPDX-License-Identifier: Apache-2.0
// Runs on text and language: packed documents do not see each other, runs resume to the same bits, and a model learns
// lines by heart.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <cmath>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/base/support.h"
#include "core/io/checkpoint.h"
#include "core/train/score.h"
#include "experiments/run/evaluations.h"
#include "experiments/run/run.h"
#include "experiments/run/support.h"

namespace klab {
namespace {

using torch::Tensor;

// Lines of different lengths.
std::string lines(int count) {
  std::string text;
  for (int n = 0; n < count; ++n) {
    text += "line " + std::to_string(n * 37 % 101) + std::string(static_cast<size_t>(1 + n % 5), 'z') + "\n";
  }
  return text;
}

RunConfig config_of(const std::string& text, const std::vector<Assignment>& more) {
  std::vector<Assignment> all = {{"task.name", "text", ""},
                                 {"task.text.files", std::vector<std::string>{text}, ""},
                                 {"task.text.separator", "\\n", ""},
                                 {"task.text.split", "all", ""},
                                 {"task.length", 48, ""},
                                 {"model.layers", 2, ""},
                                 {"model.width", 32, ""},
                                 {"model.heads", 2, ""},
                                 {"model.head_dim", 16, ""},
                                 {"train.steps", 12, ""},
                                 {"train.batch", 4, ""},
                                 {"train.eval_every", 4, ""},
                                 {"train.eval_examples", 4, ""},
                                 {"test.examples", 4, ""}};
  all.insert(all.end(), more.begin(), more.end());
  return make_run_config(all);
}

// --- Packing ---

class Packing : public testing::TestWithParam<std::string> {};

TEST_P(Packing, GivesWhatSeparateDocumentsGive) {
  const Folder folder;
  write_file(folder / "text", lines(40));
  const RunConfig config = config_of(folder / "text", {{"model.pattern", GetParam(), ""}});
  Decoder model = make_model(config);
  model->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
  const torch::NoGradGuard no_grad;
  const Batch batch = batch_source(config.task, 1, 4, Split::train)(0);
  std::map<int64_t, Score> packed, separate;
  Batch places = batch;  // the difficulty of every target is its place, so that losses can be compared one by one
  places.difficulty = torch::arange(batch.inputs.numel()).view_as(batch.inputs);
  score_batch(model, places, nullptr, {{places.difficulty, &packed}});
  const Tensor starts = batch.starts.reshape({-1}).nonzero().squeeze(-1);
  ASSERT_GT(starts.numel(), 8);
  for (int64_t i = 0; i < starts.numel(); ++i) {
    const int64_t begin = starts[i].item<int64_t>();
    const int64_t end = i + 1 < starts.numel() ? starts[i + 1].item<int64_t>() : batch.inputs.numel();
    Batch one = places.map([&](const Tensor& x) { return x.reshape({1, -1}).narrow(1, begin, end - begin); });
    one.starts = Tensor();
    score_batch(model, one, nullptr, {{one.difficulty, &separate}});
  }
  ASSERT_EQ(packed.size(), separate.size());
  for (const auto& [place, score] : packed) EXPECT_NEAR(score.loss_sum, separate.at(place).loss_sum, 1e-4) << place;
}

INSTANTIATE_TEST_SUITE_P(Mixers, Packing,
                         testing::Values("kda", "gdn", "mamba2", "mla", "mla_rope", "attention_rope", "fox",
                                         "[kda, mla]"));

TEST(CrossingDocuments, IsAnotherModelOfTheText) {
  const Folder folder;
  write_file(folder / "text", lines(40));
  const auto loss = [&](bool cross) {
    const RunConfig config = config_of(folder / "text", {{"task.text.cross_documents", cross, ""}});
    Decoder model = make_model(config);
    model->initialise(at::make_generator<at::CPUGeneratorImpl>(1));
    const torch::NoGradGuard no_grad;
    return score_batch(model, batch_source(config.task, 1, 4, Split::train)(0), nullptr).loss_sum;
  };
  EXPECT_NE(loss(true), loss(false));
}

// --- Runs ---

TEST(TextRun, ResumesInADocumentToTheSameBits) {
  const Folder folder;
  write_file(folder / "text", lines(60));
  const RunConfig config = config_of(folder / "text", {{"model.pattern", "[kda, mla]", ""}});
  const RunFolder whole = begun(folder / "whole", config), parked = begun(folder / "parked", config);
  const RunRecord direct = train_run(whole, {}, watch_nothing);
  ASSERT_EQ(direct.state, RunState::finished) << direct.reason;
  train_run(parked, {}, [](RunRecord& record, const TrainStatus*, bool) {
    if (record.step == 5) record.state = RunState::parked;
  });
  const RunRecord resumed = train_run(parked, {.resume = true}, watch_nothing);
  EXPECT_EQ(resumed.test.loss, direct.test.loss);
  const Checkpoint a = load_checkpoint(whole.last()), b = load_checkpoint(parked.last());
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, tensor] : a.tensors) EXPECT_TRUE(tensor.equal(b.tensor(name))) << name;
}

TEST(TextRun, WritesBitsPerByteAndTheLargestLogitOfMuonClip) {
  const Folder folder;
  write_file(folder / "text", lines(60));
  const RunConfig config = config_of(folder / "text", {{"model.pattern", "[kda, mla]", ""},
                                                       {"train.optimizer", "muonclip", ""},
                                                       {"train.max_logit", 0.05, ""},
                                                       {"train.lr", 0.01, ""}});
  const RunFolder run = begun(folder / "run", config);
  ASSERT_EQ(train_run(run, {}, watch_nothing).state, RunState::finished);
  const CsvTable table = read_csv(run.metrics());
  const size_t loss = table.column("loss"), bits = table.column("bits_per_byte"), logit = table.column("largest_logit");
  ASSERT_GE(table.rows.size(), 6u);
  for (const auto& row : table.rows) {
    EXPECT_EQ(row[table.column("excess")], "");
    // <end> is a target without bytes, so there are fewer bytes than targets.
    EXPECT_GT(std::stod(row[bits]), std::stod(row[loss]) / std::log(2.0));
    EXPECT_LT(std::stod(row[bits]), 1.3 * std::stod(row[loss]) / std::log(2.0));
    if (row[table.column("split")] != "train") continue;
    EXPECT_GT(std::stod(row[logit]), 0) << row[0];
  }
}

TEST(TextRun, RefusesToContinueWithOtherText) {
  const Folder folder;
  write_file(folder / "text", lines(60));
  const RunFolder run = begun(folder / "run", config_of(folder / "text", {}));
  train_run(run, {}, [](RunRecord& record, const TrainStatus*, bool) {
    if (record.step == 5) record.state = RunState::parked;
  });
  write_file(folder / "text", lines(61));
  EXPECT_THROW(read_run_config(run), UsageError);
}

// The first character of a line is not known; all others follow from it where the lines' first characters differ.
TEST(TextRun, LearnsTwentyLinesByHeart) {
  const Folder folder;
  std::string text;
  for (char first = 'a'; first < 'a' + 20; ++first) {
    text += first;
    for (int n = 0; n < 12; ++n) text += static_cast<char>('a' + (first * 7 + n * n * 5 + n * first) % 26);
    text += '\n';
  }
  write_file(folder / "text", text);
  const RunConfig config = config_of(folder / "text", {{"train.steps", 250, ""},
                                                       {"train.lr", 0.01, ""},
                                                       {"train.batch", 6, ""},
                                                       {"train.eval_every", 250, ""},
                                                       {"train.stop_at", 2, ""},
                                                       {"model.pattern", "[kda, mla]", ""}});
  const RunFolder run = begun(folder / "run", config);
  const RunRecord record = train_run(run, {}, watch_nothing);
  ASSERT_EQ(record.state, RunState::finished) << record.reason;
  const CsvTable table = read_csv(run.path + "/evaluations.csv");
  const size_t measure = table.column("measure"), slice = table.column("difficulty"), right = table.column("acc_tok");
  int64_t later = 0;
  for (const auto& row : table.rows) {
    if (row[measure] != "position" || std::stoll(row[slice] == "all" ? "0" : row[slice]) < 1) continue;
    EXPECT_GE(std::stod(row[right]), 0.95) << "position " << row[slice];
    ++later;
  }
  EXPECT_GE(later, 4);
}

TEST(LanguageRun, ReportsLossAboveTheEntropyOfTheSource) {
  const Folder folder;
  const RunConfig config = make_run_config({{"task.name", "language", ""},
                                            {"task.length", 64, ""},
                                            {"task.vocab", 16, ""},
                                            {"model.layers", 1, ""},
                                            {"model.width", 32, ""},
                                            {"model.heads", 2, ""},
                                            {"model.head_dim", 16, ""},
                                            {"train.steps", 60, ""},
                                            {"train.batch", 16, ""},
                                            {"train.lr", 0.01, ""},
                                            {"train.eval_every", 60, ""},
                                            {"train.eval_examples", 32, ""},
                                            {"test.examples", 128, ""},
                                            {"test.also", "{language.recur: 0.9}", ""}});
  const RunFolder run = begun(folder / "run", config);
  const RunRecord record = train_run(run, {}, watch_nothing);
  ASSERT_EQ(record.state, RunState::finished) << record.reason;
  const CsvTable table = read_csv(run.path + "/evaluations.csv");
  std::vector<double> losses, excess;
  for (const auto& row : table.rows) {
    if (row[table.column("difficulty")] != "all") continue;
    losses.push_back(std::stod(row[table.column("loss")]));
    excess.push_back(std::stod(row[table.column("excess")]));
    EXPECT_EQ(row[table.column("bits_per_byte")], "");
  }
  ASSERT_EQ(losses.size(), 2u);  // the task, and the one with shifted shares
  EXPECT_GT(excess[0], 0.02);
  EXPECT_LT(excess[0], 1.0);
  EXPECT_LT(excess[0], losses[0]);
  EXPECT_GT(excess[1], excess[0]);
}

}  // namespace
}  // namespace klab
