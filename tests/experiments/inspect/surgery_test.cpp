// SPDX-License-Identifier: Apache-2.0
// Edits of the states of small trained models: what must hold for any weights, and what cannot be edited.
#include "experiments/inspect/surgery.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/support.h"
#include "experiments/run/support.h"

namespace klab {
namespace {

// Trains a small model for a few steps; returns its folder.
std::string few_steps(const Folder& folder, const std::string& pattern, const std::vector<Assignment>& more = {}) {
  std::vector<Assignment> all = {
      {"task.length", 16, ""}, {"task.vocab", 16, ""},      {"model.pattern", pattern, ""}, {"model.layers", 1, ""},
      {"model.width", 16, ""}, {"model.heads", 2, ""},      {"model.head_dim", 8, ""},      {"train.steps", 8, ""},
      {"train.batch", 4, ""},  {"train.eval_every", 8, ""}, {"train.eval_examples", 4, ""}, {"test.examples", 4, ""}};
  all.insert(all.end(), more.begin(), more.end());
  const RunFolder run = begun(folder / "run", make_run_config(all));
  const RunRecord record = train_run(run, {}, watch_nothing);
  EXPECT_EQ(record.state, RunState::finished) << record.reason;
  return run.path;
}

SurgeryOptions surgery_options(const std::string& run, int64_t layer = -1) {
  SurgeryOptions options;
  options.run.run = run;
  options.run.examples = 12;
  options.layer = layer;
  options.quiet = true;
  return options;
}

std::string refusal_to_edit(const SurgeryOptions& options) {
  return message_of<UsageError>([&] { edit_states(options); });
}

void expect_share(const SampleMean& share, bool known) {
  ASSERT_EQ(share.known(), known);
  if (!known) return;
  EXPECT_GE(share.mean, 0);
  EXPECT_LE(share.mean, 1);
}

void expect_exact(const SurgeryPoint& point) {
  constexpr double kRounding = 1e-4;  // of a float32 state, relative to values that may be small in it
  if (point.edit == StateEdit::read) {
    EXPECT_LE(std::abs(point.success.mean), 1 + kRounding);
  } else {
    EXPECT_LT(point.error.mean, kRounding);
    EXPECT_NEAR(point.success.mean, 1, kRounding);
  }
}

void expect_sound(const SurgeryPoint& point) {
  SCOPED_TRACE(fmt::format("{} of {} pairs", to_string(point.edit), point.pairs));
  const bool edited = point.edit != StateEdit::read, others = point.pairs > 1;
  EXPECT_GE(point.examples, 1);
  EXPECT_LE(point.examples, 12);
  expect_exact(point);
  EXPECT_EQ(point.damage.known(), edited && others);
  EXPECT_EQ(point.overlap.known(), others);
  if (others) {
    EXPECT_GT(point.overlap.mean, 0);
    EXPECT_LE(point.overlap.mean, 1 + 1e-9);
  }
  if (edited && others) {
    EXPECT_GT(point.damage.mean, 0);
  }
  expect_share(point.answers_right, !edited);
  expect_share(point.answers_changed, edited);
  expect_share(point.answers_kept, edited && others);
}

TEST(EditStates, EditsAreExactInEveryMixer) {
  for (const std::string mixer : {"kda", "gdn", "mamba2", "deltanet"}) {
    SCOPED_TRACE(mixer);
    const Folder folder;
    const Surgery surgery = edit_states(surgery_options(few_steps(folder, mixer)));
    EXPECT_EQ(surgery.mixer.title(), "layer 0: " + mixer);
    EXPECT_EQ(surgery.heads, 2);
    EXPECT_EQ(surgery.key_dim, 8);
    EXPECT_EQ(surgery.value_dim, 8);
    EXPECT_EQ(surgery.step, 8);
    EXPECT_GT(surgery.attention, 0);
    EXPECT_LE(surgery.attention, 1 + 1e-6);
    ASSERT_EQ(surgery.points.size(), 3u * 4) << "one to four pairs, three operations";
    for (size_t i = 0; i < surgery.points.size(); ++i) {
      EXPECT_EQ(surgery.points[i].pairs, static_cast<int64_t>(i / 3) + 1);
      EXPECT_EQ(static_cast<size_t>(surgery.points[i].edit), i % 3);
      expect_sound(surgery.points[i]);
    }
  }
}

TEST(EditStates, RepeatToTheSameNumbers) {
  const Folder folder;
  const std::string run = few_steps(folder, "gdn");
  const Surgery once = edit_states(surgery_options(run)), again = edit_states(surgery_options(run));
  ASSERT_EQ(once.points.size(), again.points.size());
  for (size_t i = 0; i < once.points.size(); ++i) {
    EXPECT_EQ(once.points[i].success.mean, again.points[i].success.mean);
    EXPECT_EQ(once.points[i].error.mean, again.points[i].error.mean);
  }
}

// Continued from a state they are those of one pass over all pairs, <sep> and a key, for every key.
TEST(EditStates, AnswersBeforeAnEditAreTheModels) {
  const Folder folder;
  const std::string run = few_steps(folder, "kda,attention", {{"model.layers", 2, ""}});
  SurgeryOptions options = surgery_options(run);
  options.run.examples = 1;
  const Surgery surgery = edit_states(options);
  const RunConfig config = read_run_config({run});
  Decoder model = make_model(config);
  load_parameters(RunFolder{run}.last(), model);
  const torch::NoGradGuard no_grad;
  const Example example = config.task.make()->example(config.train.seed, Split::test, 0);
  const int64_t pairs = surgery.points.back().pairs;
  double right = 0;
  for (int64_t i = 0; i < pairs; ++i) {
    std::vector<int64_t> tokens(example.inputs.begin(), example.inputs.begin() + 2 * pairs);
    tokens.insert(tokens.end(), {config.task.vocab, example.inputs[static_cast<size_t>(2 * i)]});  // <sep>, key
    const torch::Tensor hidden = model->hidden(torch::tensor(tokens, torch::kLong).unsqueeze(0)).select(1, -1);
    const auto answer = model->head(hidden).argmax(-1).item<int64_t>();
    right += answer == example.inputs[static_cast<size_t>(2 * i + 1)] ? 1 : 0;
  }
  const SurgeryPoint& read = surgery.points[surgery.points.size() - 3];
  ASSERT_EQ(read.edit, StateEdit::read);
  EXPECT_NEAR(read.answers_right.mean, right / static_cast<double>(pairs), 1e-12);
}

TEST(EditStates, TakeTheLayerThatIsNamed) {
  const Folder folder;
  const std::string run = few_steps(folder, "attention,gla,kda:1+attention:1", {{"model.layers", 3, ""}});
  EXPECT_EQ(edit_states(surgery_options(run, 1)).mixer.title(), "layer 1: gla");
  const Surgery part = edit_states(surgery_options(run, 2));
  EXPECT_EQ(part.mixer.title(), "layer 2, heads of kind 0: kda");
  EXPECT_EQ(part.heads, 1);
  EXPECT_NE(edit_states(surgery_options(run)).mixer.layer, 0);
  const std::string message = refusal_to_edit(surgery_options(run, 0));
  EXPECT_CONTAINS(message, "--layer 0: its state cannot be edited");
  EXPECT_CONTAINS(message, "layer 1: gla; layer 2, heads of kind 0: kda");
}

TEST(EditStates, NeedAStateThatCanBeEdited) {
  for (const std::string mixer : {"attention", "gated_deltaproduct"}) {
    const Folder folder;
    const std::string message = refusal_to_edit(surgery_options(few_steps(folder, mixer)));
    EXPECT_CONTAINS(message, "has no layer whose state can be edited, only layer 0: " + mixer);
    EXPECT_CONTAINS(message, "--model.pattern kda");
  }
}

TEST(EditStates, NeedAssociations) {
  const Folder folder;
  const std::string run = few_steps(folder, "kda", {{"task.name", "copy", ""}, {"task.length", 17, ""}});
  EXPECT_CONTAINS(refusal_to_edit(surgery_options(run)), "task.name = copy has no associations");
}

TEST(EditStates, NeedTwoAssociations) {
  const Folder folder;
  const std::string run = few_steps(folder, "kda", {{"task.mqar.pairs", 1, ""}});
  EXPECT_CONTAINS(refusal_to_edit(surgery_options(run)), "none of 12 examples has two associations");
}

TEST(EditStates, NeedACheckpoint) {
  const Folder folder;
  const RunFolder run = begun(folder / "run", make_run_config({{"task.length", 16, ""}}));
  EXPECT_CONTAINS(refusal_to_edit(surgery_options(run.path)), "has no checkpoint yet");
  EXPECT_CONTAINS(refusal_to_edit(surgery_options(folder / "none")), "is not a run folder");
}

}  // namespace
}  // namespace klab
