// SPDX-License-Identifier: Apache-2.0
// klab rl as a program.
#include <signal.h>

#include <map>
#include <random>

#include "core/base/csv.h"
#include "core/base/file.h"
#include "core/io/checkpoint.h"
#include "experiments/cli/support.h"

#include <ATen/ATen.h>

namespace klab {
namespace {

namespace fs = std::filesystem;

class RlProgram : public ProgramTest {
 protected:
  using Keys = std::map<std::string, std::string>;

  std::vector<std::string> flags(const std::string& name, Keys keys = {}) {
    keys.merge(Keys{{"task.name", "question"},
                    {"task.length", "12"},
                    {"task.question.largest", "4"},
                    {"model.width", "16"},
                    {"model.heads", "1"},
                    {"model.head_dim", "16"},
                    {"train.steps", "60"},
                    {"train.batch", "8"},
                    {"train.eval_every", "10"},
                    {"train.eval_examples", "16"},
                    {"train.checkpoint_every", "7"},
                    {"train.stop_at", "2"},
                    {"rl.prompts", "4"},
                    {"rl.samples", "4"},
                    {"rl.max_new_tokens", "6"},
                    {"reward.name", "prefix"}});
    std::vector<std::string> all{"rl", "--threads", "1", "--out", path(name)};
    for (const auto& [key, value] : keys) all.insert(all.end(), {"--" + key, value});
    return all;
  }

  // What a run computed, without times.
  std::string result(const std::string& name) {
    const CsvTable table = read_csv(path(name + "/metrics.csv"));
    std::string text = read_file(path(name + "/answers.jsonl"));
    for (const auto& row : table.rows) {
      for (size_t i = 0; i < table.column("tokens_per_second"); ++i) text += row[i] + ",";
      text += "\n";
    }
    return text;
  }

  void expect_same(const std::string& a, const std::string& b) {
    const Checkpoint x = load_checkpoint(path(a + "/checkpoint/last.safetensors")),
                     y = load_checkpoint(path(b + "/checkpoint/last.safetensors"));
    ASSERT_EQ(x.tensors.size(), y.tensors.size());
    for (const auto& [name, tensor] : x.tensors) EXPECT_TRUE(at::equal(tensor, y.tensor(name))) << name;
    EXPECT_EQ(result(a), result(b));
  }
};

TEST_F(RlProgram, MakesACompleteRunFolder) {
  const Finished run = klab(flags("a"));
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* part : {"rollout ", "reward ", "update ", "tokens/s", "validation", "test"}) {
    EXPECT_NE(run.out.find(part), std::string::npos) << part;
  }
  for (const char* file : {"config.yaml", "metrics.csv", "record.json", "answers.jsonl", "plot.png"}) {
    EXPECT_TRUE(fs::exists(path("a/") + file)) << file;
  }
  const CsvTable table = read_csv(path("a/metrics.csv"));
  for (const char* column : {"step", "split", "reward", "accuracy", "kl", "entropy"}) EXPECT_TRUE(table.has(column));
  ASSERT_EQ(klab({"rl", path("a/config.yaml"), "--quiet", "--threads", "1", "--out", path("b")}).status, 0);
  expect_same("a", "b");
}

TEST_F(RlProgram, ContinuesAfterSigkillToTheSameBits) {
  const Keys more{{"rl.minibatches", "2"}, {"rl.reset_optimizer", "false"}, {"train.steps", "120"}};
  ASSERT_EQ(klab(flags("whole", more)).status, 0);
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  std::uniform_real_distribution<double> moment(0.4, 1.2);
  Finished run = klab(flags("killed", more), SIGKILL, moment(random));
  for (int kills = 0; run.status != 0 && kills < 50; ++kills) {
    ASSERT_EQ(run.status, 128 + SIGKILL) << run.err;
    run = fs::exists(path("killed/config.yaml"))
              ? klab({"resume", path("killed"), "--quiet"}, kills < 3 ? SIGKILL : 0, moment(random))
              : klab(flags("killed", more));
  }
  ASSERT_EQ(run.status, 0) << run.err;
  expect_same("whole", "killed");
}

// It arrives in sampling, in an update or in an evaluation, which take most of the time here.
TEST_F(RlProgram, AnInterruptIsFollowedByACheckpoint) {
  const Keys more{{"train.steps", "120"}, {"train.eval_every", "1"}, {"train.eval_examples", "64"}};
  ASSERT_EQ(klab(flags("whole", more)).status, 0);
  const Finished stopped = klab(flags("stopped", more), SIGTERM, 0.8);
  ASSERT_EQ(stopped.status, 143) << stopped.err;
  ASSERT_EQ(klab({"resume", path("stopped"), "--quiet"}).status, 0);
  expect_same("whole", "stopped");
}

TEST_F(RlProgram, SaysThatNoRewardDiffers) {
  const Finished run =
      klab(flags("zero", {{"reward.name", "exact"}, {"train.steps", "12"}, {"task.question.smallest", "4"}}));
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_NE(run.err.find("10 iterations in a row changed nothing"), std::string::npos) << run.err;
  EXPECT_EQ(read_file(path("zero/metrics.csv")).find("nan"), std::string::npos);
}

TEST_F(RlProgram, UsageErrorsNameWhatIsRight) {
  const Finished trained = klab({"train", "--quiet", "--rl.samples", "3"});
  EXPECT_EQ(trained.status, 2);
  write_file(path("rl.yaml"), "task.name: question\nrl.samples: 3\n");
  const Finished wrong = klab({"train", path("rl.yaml"), "--quiet", "--out", path("x")});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_NE(wrong.err.find("klab rl"), std::string::npos) << wrong.err;
  EXPECT_EQ(klab(flags("y", {{"rl.loss", "ppo"}})).status, 2);
  const Finished missing = klab(flags("z", {{"train.from", path("nothing")}}));
  EXPECT_EQ(missing.status, 1);
  EXPECT_NE(missing.err.find("there is no file"), std::string::npos) << missing.err;
}

TEST_F(RlProgram, IsInspectedWithItsAnswers) {
  ASSERT_EQ(klab(flags("a", {{"train.steps", "10"}})).status, 0);
  const Finished run = klab({"inspect", path("a"), "--quiet", "--examples", "8"});
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_NE(read_file(path("a/inspect/report.html")).find("What does it answer?"), std::string::npos);
  const CsvTable answers = read_csv(path("a/inspect/answers.csv"));
  EXPECT_EQ(answers.columns, (std::vector<std::string>{"step", "split", "prompt", "reference", "answer", "reward"}));
  EXPECT_FALSE(answers.rows.empty());
}

// A sweep runs them as any other run, and a killed worker's run goes on.
TEST_F(RlProgram, RunsInASweep) {
  write_file(
      path("s.yaml"),
      "base: {task: {name: question, length: 12, question: {largest: 4}}, model: {width: 16, heads: 1, head_dim: "
      "16}, train: {steps: 4, batch: 8, eval_every: 2, eval_examples: 8, stop_at: 2}, rl: {prompts: 2, "
      "max_new_tokens: 6}}\ngrid: {rl.samples: [2, 3]}\n");
  const Finished run = klab({"sweep", path("s.yaml"), "--quiet", "--out", path("s")});
  ASSERT_EQ(run.status, 0) << run.err << run.out;
  const CsvTable results = read_csv(path("s/results.csv"));
  EXPECT_EQ(results.rows.size(), 2u);
  EXPECT_TRUE(results.has("rl.samples"));
}

}  // namespace
}  // namespace klab
