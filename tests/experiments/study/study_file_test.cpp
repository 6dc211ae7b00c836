// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/study_file.h"

#include <gtest/gtest.h>

#include <optional>

#include "experiments/study/support.h"

namespace klab {
namespace {

using Texts = std::vector<std::string>;

StudyFile read(const std::string& text) {
  const Folder folder;
  return study_file(folder, text);
}

std::string refusal(const std::string& text) {
  return message_of<UsageError>([&] { read(text); });
}

std::string claims(const std::string& list) {
  const std::string text = study_text("");
  return text.substr(0, text.find("study:")) + "study:\n  claims: " + list + "\n";
}

TEST(StudyFileTest, HasASearchAndWhatIsAsked) {
  const std::string text = study_text(
      "  question: Which one?\n  cells: [task.length]\n  choose: train.batch\n  choose_by: loss\n  seeds: 4\n"
      "  metric: best_test_acc_seq\n  margin: 0.1\n  assume: bounded\n  paired: true\n  alpha: 0.01\n"
      "  solved_at: 0.5\n  reach: acc_seq\n  reach_at: 0.25\n");
  const StudyFile file = read(text);
  EXPECT_EQ(file.name, "question");
  EXPECT_EQ(file.text, text);
  EXPECT_EQ(file.search.configs.size(), 4u);
  EXPECT_EQ(file.study.question, "Which one?");
  EXPECT_EQ(file.study.cells, Texts{"task.length"});
  EXPECT_EQ(file.study.choose, "train.batch");
  EXPECT_EQ(file.study.choose_by, "loss");
  EXPECT_EQ(file.study.seeds, 4);
  EXPECT_EQ(file.study.metric, "best_test_acc_seq");
  EXPECT_EQ(file.study.margin, 0.1);
  EXPECT_EQ(file.study.assume, "bounded");
  EXPECT_TRUE(file.study.paired);
  EXPECT_EQ(file.study.alpha, 0.01);
  EXPECT_EQ(file.study.solved_at, 0.5);
  EXPECT_EQ(file.study.reach, "acc_seq");
  EXPECT_EQ(file.study.reach_at, 0.25);
  const std::vector<Claim> list = file.study.claim_list();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].better, "kda");
  EXPECT_EQ(list[0].than, "gdn");
  EXPECT_EQ(list[0].text(), "kda above gdn");
}

TEST(StudyFileTest, OnlyClaimsAreNeeded) {
  const StudyConfig study = read(study_text("")).study;
  EXPECT_EQ(study.question, "");
  EXPECT_EQ(study.compare, "model.pattern");
  EXPECT_EQ(study.cells, (Texts{"task.name", "task.length"}));
  EXPECT_EQ(study.choose, "train.lr");
  EXPECT_EQ(study.choose_by, "best_acc_tok");
  EXPECT_EQ(study.seeds, 10);
  EXPECT_EQ(study.metric, "test_acc_tok");
  EXPECT_EQ(study.margin, 0);
  EXPECT_EQ(study.assume, "shift");
  EXPECT_FALSE(study.paired);
  EXPECT_EQ(study.alpha, 0.05);
  EXPECT_EQ(study.solved_at, 0.99);
  EXPECT_EQ(study.reach, "acc_tok");
  EXPECT_EQ(study.reach_at, 0.9);
}

TEST(StudyFileTest, NeedsASectionWithClaims) {
  const std::string text = study_text("");
  EXPECT_CONTAINS(refusal(text.substr(0, text.find("study:"))), "question: a study needs a section `study`");
  EXPECT_CONTAINS(refusal(claims("[]")), "study.claims: there is nothing to compare");
  EXPECT_CONTAINS(refusal(claims("[{better: kda}]")), "{\"better\":\"kda\"} must have the keys better and than");
  EXPECT_CONTAINS(refusal(claims("[{better: kda, then: gdn}]")), "unknown key 'then'");
  EXPECT_CONTAINS(refusal(claims("[kda]")), "claims = [kda] must be a list of maps");
}

TEST(StudyFileTest, ClaimsAreOnValuesThatAreRun) {
  EXPECT_CONTAINS(refusal(claims("[{better: kda, than: gnd}]")),
                  "study.claims: no run has model.pattern = gnd. There are: kda; gdn");
  EXPECT_CONTAINS(refusal(claims("[{better: mamba2, than: gdn}]")), "no run has model.pattern = mamba2");
  const std::string lists =
      "base:\n  model: {layers: 2}\ngrid:\n  model.pattern: [[kda, mla], gdn]\nstudy:\n  claims: ";
  EXPECT_EQ(read(lists + "[{better: \"kda, mla\", than: gdn}]\n").study.claim_list()[0].better, "kda, mla");
  EXPECT_EQ(read(lists + "[{better: [kda, mla], than: gdn}]\n").study.claim_list()[0].better, "[kda, mla]");
  EXPECT_CONTAINS(refusal(lists + "[{better: kda, than: gdn}]\n"), "no run has model.pattern = kda");
  const std::string numbers = "grid:\n  model.width: [64, 128]\nstudy:\n  compare: model.width\n  claims: ";
  EXPECT_EQ(read(numbers + "[{better: 128, than: 64}]\n").study.claim_list()[0].text(), "128 above 64");
}

TEST(StudyFileTest, MistakesAreNamed) {
  EXPECT_CONTAINS(refusal(study_text("  seed: 3\n")), "question.yaml, line 10: unknown key 'seed'");
  EXPECT_CONTAINS(refusal(study_text("  seed: 3\n")), "did you mean 'seeds'?");
  EXPECT_CONTAINS(refusal(study_text("  seeds: 1\n")), "seeds = 1 must be between 2 and 1000");
  EXPECT_CONTAINS(refusal(study_text("  metric: acc_tok\n")), "metric = acc_tok must be one of: test_acc_tok");
  EXPECT_CONTAINS(refusal(study_text("  choose_by: test_loss\n")), "choose_by = test_loss must be one of: best_acc_tok")
      << "test data choose nothing";
  EXPECT_CONTAINS(refusal(study_text("  reach: loss\n")), "reach = loss must be one of: acc_tok, acc_seq");
  EXPECT_CONTAINS(refusal(study_text("  alpha: 0\n")), "alpha = 0 must be above 0");
  EXPECT_CONTAINS(refusal(study_text("  margin: -1\n")), "margin = -1 must be between 0");
  EXPECT_CONTAINS(refusal(study_text("  assume: nothing\n")), "assume = nothing must be one of: shift, bounded");
}

TEST(StudyFileTest, CellsAndOtherKeysAreThoseOfEveryRun) {
  EXPECT_CONTAINS(refusal(study_text("  cells: [task.size]\n")), "'task.size' is not a key of all runs");
  EXPECT_CONTAINS(refusal(study_text("  cells: [model.kda.conv_size]\n")),
                  "'model.kda.conv_size' is not a key of all runs");
  EXPECT_CONTAINS(refusal(study_text("  choose: train.rate\n")), "'train.rate' is not a key of all runs");
  EXPECT_CONTAINS(refusal(study_text("  compare: model.mixer\n")), "'model.mixer' is not a key of all runs");
}

TEST(StudyFileTest, OverridesApplyToEveryRun) {
  const Folder folder;
  const StudyFile file = study_file(folder, study_text(""), {{"train.seed", 7, "--seed"}});
  ASSERT_EQ(file.search.configs.size(), 4u);
  for (const RunConfig& config : file.search.configs) EXPECT_EQ(config.train.seed, 7);
}

TEST(StudyFileTest, SlowThoseInTheProgramAreValid) {
  for (const std::string name :
       {"configs/demo.yaml", "figures/fig4/smoke.yaml", "figures/fig4/small.yaml", "figures/fig4/paper.yaml",
        "figures/fig5/smoke.yaml", "figures/fig5/small.yaml", "figures/fig5/paper.yaml", "figures/formal/smoke.yaml",
        "figures/formal/small.yaml", "figures/formal/paper.yaml", "figures/mad/smoke.yaml", "figures/mad/small.yaml",
        "figures/mad/paper.yaml", "figures/table1/smoke.yaml", "figures/table1/small.yaml", "figures/table1/paper.yaml",
        "figures/table5/smoke.yaml", "figures/table5/small.yaml", "figures/table5/paper.yaml"}) {
    const StudyFile file = read_builtin_study(name);
    EXPECT_EQ(file.name, name);
    EXPECT_FALSE(contains(file.text, "extends:")) << name;
    EXPECT_FALSE(file.study.question.empty()) << name;
    EXPECT_GE(file.study.seeds, 2) << name;
  }
}

// A sweep of the file has the same runs as without the section.
TEST(StudyFileTest, ASweepIgnoresTheSection) {
  const Folder folder;
  const std::string text = study_text("  no_such_key: 1\n");
  write_file(folder / "with.yaml", text);
  write_file(folder / "without.yaml", text.substr(0, text.find("study:")));
  const Sweep with = read_sweep(folder / "with.yaml"), without = read_sweep(folder / "without.yaml");
  ASSERT_EQ(with.plan.runs.size(), 4u);
  ASSERT_EQ(without.plan.runs.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(with.plan.runs[i].id, without.plan.runs[i].id);
  EXPECT_EQ(with.plan.keys, without.plan.keys);
}

TEST(PrimaryQuestion, FollowsTheMetric) {
  StudyConfig study;
  study.margin = 0.03;
  study.alpha = 0.1;
  study.paired = true;
  for (const std::string metric : {"test_acc_tok", "test_acc_seq", "best_test_acc_tok", "best_test_acc_seq"}) {
    study.metric = metric;
    const Question question = study.primary();
    EXPECT_EQ(question.test, TestKind::means);
    EXPECT_EQ(question.direction, Direction::greater) << metric;
    EXPECT_EQ(question.unit.name, "points") << metric;
    EXPECT_EQ(question.unit.size, 0.01) << metric;
    EXPECT_EQ(question.margin, 0.03);
    EXPECT_EQ(question.alpha, 0.1);
    EXPECT_TRUE(question.paired);
  }
  for (const std::string metric : {"test_loss", "best_test_loss"}) {
    study.metric = metric;
    const Question question = study.primary();
    EXPECT_EQ(question.direction, Direction::less) << metric;
    EXPECT_EQ(question.unit.name, "nats") << metric;
    EXPECT_EQ(question.unit.size, 1) << metric;
    EXPECT_EQ(question.margin, 0.03);
  }
}

TEST(PrimaryQuestion, AssumesNothingWithinTheRangeOfAccuraciesIfAsked) {
  StudyConfig study;
  EXPECT_FALSE(study.primary().range);
  study.assume = "bounded";
  ASSERT_TRUE(study.primary().range);
  EXPECT_EQ(study.primary().range->low, 0);
  EXPECT_EQ(study.primary().range->high, 1);
  study.metric = "test_loss";
  EXPECT_FALSE(study.primary().range) << "losses have no known range";
}

// The copy beside the results says all that was run.
TEST(StudyFile, OverridesBecomeAPartOfItsText) {
  const StudyFile changed = read_builtin_study(
      "configs/demo.yaml", {{"train.steps", 20, "--steps"}, {"train.phases", Value::array(), "--steps"}});
  const Folder folder;
  write_file(folder / "demo.yaml", changed.text);
  const StudyFile again = read_study(folder / "demo.yaml");
  ASSERT_EQ(again.search.configs.size(), changed.search.configs.size());
  for (size_t i = 0; i < again.search.configs.size(); ++i) {
    EXPECT_EQ(again.search.configs[i].train.steps, 20);
    EXPECT_EQ(again.search.plan.runs[i].id, changed.search.plan.runs[i].id);
  }
}

}  // namespace
}  // namespace klab
