// SPDX-License-Identifier: Apache-2.0
// klab train and klab resume as programs.
#include <signal.h>
#include <unistd.h>

#include <random>

#include "core/base/file.h"
#include "core/base/lock.h"
#include "core/io/checkpoint.h"
#include "experiments/cli/support.h"

#include <ATen/ATen.h>

namespace klab {
namespace {

namespace fs = std::filesystem;

using TrainProgram = ProgramTest;

void expect_same_parameters(const std::string& a, const std::string& b) {
  const Checkpoint x = load_checkpoint(a), y = load_checkpoint(b);
  EXPECT_EQ(x.field("step"), y.field("step"));
  ASSERT_EQ(x.tensors.size(), y.tensors.size());
  for (const auto& [name, tensor] : x.tensors) EXPECT_TRUE(at::equal(tensor, y.tensor(name))) << name;
}

TEST_F(TrainProgram, MakesACompleteRunFolder) {
  const Finished run = klab(tiny_run(path("a")));
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* file :
       {"config.yaml", "metrics.csv", "plot.png", "checkpoint/last.safetensors", "checkpoint/best.safetensors"}) {
    EXPECT_TRUE(fs::exists(folder_ / "a" / file)) << file;
  }
  EXPECT_NE(run.out.find("waiting for data"), std::string::npos);
  EXPECT_EQ(read_file(path("a/plot.png")).substr(1, 3), "PNG");
  const std::string metrics = read_file(path("a/metrics.csv"));
  EXPECT_NE(metrics.find("\nstep,split,loss,acc_tok,acc_seq,"), std::string::npos);
  EXPECT_NE(metrics.find("# command: ./klab train"), std::string::npos);
}

TEST_F(TrainProgram, SaysItsCommandInWordsForAShell) {
  const std::string folder = path("a b'c");
  ASSERT_EQ(klab(tiny_run(folder, {"--train.steps", "1"})).status, 0);
  const std::string words =
      "./klab train --quiet --threads 1 --out '" + folder_.string() + "/a b'\\''c' --task.name mqar";
  const std::string config = read_file(folder + "/config.yaml");
  EXPECT_EQ(config.rfind("# " + words, 0), 0u) << config;
  EXPECT_NE(read_file(folder + "/metrics.csv").find("# command: " + words), std::string::npos);
}

// A line break in the command is no line break in the comments, where what follows would be read as a key or a row.
TEST_F(TrainProgram, WordsWithLineBreaksStayInTheComments) {
  const std::string folder = path("a\ntrain.lr: 7\n#");
  ASSERT_EQ(klab(tiny_run(folder, {"--train.steps", "2", "--test.also", "{length: 20},\n  {length: 24}"})).status, 0);
  ASSERT_EQ(klab({"resume", folder, "--quiet"}).status, 0);
  ASSERT_EQ(klab({"train", folder + "/config.yaml", "--quiet", "--threads", "1", "--out", path("b")}).status, 0);
  const auto keys = [](const std::string& config) { return config.substr(config.find('\n')); };
  EXPECT_EQ(keys(read_file(folder + "/config.yaml")), keys(read_file(path("b/config.yaml"))));
  for (const char* file : {"metrics.csv", "evaluations.csv"}) {
    const std::string text = read_file(folder + "/" + file);
    EXPECT_NE(text.find("a\\ntrain.lr: 7\\n#'"), std::string::npos) << text;
    EXPECT_EQ(text.find("\ntrain.lr"), std::string::npos) << text;
  }
}

TEST_F(TrainProgram, RepeatsARunFromItsConfigToTheSameBits) {
  ASSERT_EQ(klab(tiny_run(path("a"))).status, 0);
  ASSERT_EQ(klab({"train", path("a/config.yaml"), "--quiet", "--threads", "1", "--out", path("b")}).status, 0);
  expect_same_parameters(path("a/checkpoint/last.safetensors"), path("b/checkpoint/last.safetensors"));
  EXPECT_EQ(timeless_rows(path("a/metrics.csv")), timeless_rows(path("b/metrics.csv")));
  ASSERT_EQ(klab(tiny_run(path("c"), {"--seed", "2"})).status, 0);
  EXPECT_NE(timeless_rows(path("a/metrics.csv")), timeless_rows(path("c/metrics.csv")));
}

TEST_F(TrainProgram, ResumesAfterSigkillToTheSameBits) {
  const auto flags = [](const std::string& out) {
    return tiny_run(out, {"--train.steps", "200", "--train.stop_at", "2"});
  };
  ASSERT_EQ(klab(flags(path("whole"))).status, 0);
  // Killed repeatedly at random times until it finishes.
  std::mt19937 random(testing::UnitTest::GetInstance()->random_seed());
  std::uniform_real_distribution<double> moment(0.3, 1.5);
  Finished run = klab(flags(path("killed")), SIGKILL, moment(random));
  int kills = 0;
  for (; run.status != 0 && kills < 50; ++kills) {
    ASSERT_EQ(run.status, 128 + SIGKILL) << run.err;
    if (!fs::exists(path("killed/config.yaml"))) {  // killed before the run started
      run = klab(flags(path("killed")));
      continue;
    }
    run = klab({"resume", path("killed"), "--quiet"}, kills < 3 ? SIGKILL : 0, moment(random));
  }
  ASSERT_EQ(run.status, 0) << run.err;
  expect_same_parameters(path("whole/checkpoint/last.safetensors"), path("killed/checkpoint/last.safetensors"));
  expect_same_parameters(path("whole/checkpoint/best.safetensors"), path("killed/checkpoint/best.safetensors"));
  EXPECT_EQ(timeless_rows(path("whole/metrics.csv")), timeless_rows(path("killed/metrics.csv")));
}

// Experts without tokens, correction biases without gradients, head-wise hybrids: all are in the checkpoint.
TEST_F(TrainProgram, ResumesAHybridWithExpertsToTheSameBits) {
  const auto flags = [](const std::string& out) {
    return tiny_run(out, {"--model.pattern", "kda:1+attention:1,mla", "--model.heads", "2", "--model.layers", "3",
                          "--model.last_layer", "fox", "--model.moe.experts", "6", "--model.moe.experts_per_token", "2",
                          "--train.steps", "200", "--train.stop_at", "2"});
  };
  ASSERT_EQ(klab(flags(path("whole"))).status, 0);
  const Finished stopped = klab(flags(path("stopped")), SIGTERM, 0.7);
  ASSERT_EQ(stopped.status, 143) << stopped.err;
  ASSERT_EQ(klab({"resume", path("stopped"), "--quiet"}).status, 0);
  expect_same_parameters(path("whole/checkpoint/last.safetensors"), path("stopped/checkpoint/last.safetensors"));
  EXPECT_EQ(timeless_rows(path("whole/metrics.csv")), timeless_rows(path("stopped/metrics.csv")));
  const Checkpoint end = load_checkpoint(path("whole/checkpoint/last.safetensors"));
  EXPECT_GT(end.tensor("model.layer1.mlp.correction_bias").abs().max().item<double>(), 0);
}

TEST_F(TrainProgram, ResumesOverAHalfWrittenRow) {
  ASSERT_EQ(klab(tiny_run(path("a"))).status, 0);
  const std::vector<std::string> rows = timeless_rows(path("a/metrics.csv"));
  write_file(path("a/metrics.csv"), read_file(path("a/metrics.csv")) + "50,tra");
  const Finished run = klab({"resume", path("a"), "--quiet"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(timeless_rows(path("a/metrics.csv")), rows);
}

TEST_F(TrainProgram, StopsCleanlyWhenInterrupted) {
  const Finished run = klab(tiny_run(path("a"), {"--train.steps", "1000000", "--train.stop_at", "2"}), SIGINT, 2.0);
  EXPECT_EQ(run.status, 130) << run.err;
  EXPECT_GT(load_checkpoint(path("a/checkpoint/last.safetensors")).json_field<int64_t>("step"), 0);
  EXPECT_EQ(klab({"resume", path("a"), "--quiet"}, SIGTERM, 2.0).status, 143);
}

TEST_F(TrainProgram, EndsADivergedRunWithItsLastGoodCheckpoint) {
  const Finished run =
      klab(tiny_run(path("a"), {"--train.lr", "1e30", "--train.warmup_ratio", "1", "--train.checkpoint_every", "1"}));
  EXPECT_EQ(run.status, 1);
  EXPECT_NE(run.err.find("diverged"), std::string::npos) << run.err;
  const Finished again = klab({"resume", path("a"), "--quiet"});
  EXPECT_EQ(again.status, 1);
}

TEST_F(TrainProgram, StopsEarlyOnSuccess) {
  const Finished run = klab(tiny_run(
      path("a"), {"--train.stop_at", "0.05", "--task.mqar.pairs", "2", "--train.lr", "1e-2", "--train.steps", "900"}));
  ASSERT_EQ(run.status, 0) << run.err;
  EXPECT_NE(run.out.find("success after "), std::string::npos) << run.out;
  EXPECT_LT(load_checkpoint(path("a/checkpoint/last.safetensors")).json_field<int64_t>("step"), 900);
}

TEST_F(TrainProgram, RefusesADamagedCheckpoint) {
  ASSERT_EQ(klab(tiny_run(path("a"))).status, 0);
  const std::string last = path("a/checkpoint/last.safetensors"), good = read_file(last);
  std::string flipped = good;
  flipped[good.size() - 100] ^= 1;
  for (const std::string& bad : {flipped, good.substr(0, good.size() / 2), std::string()}) {
    write_file(last, bad);
    const Finished run = klab({"resume", path("a")});
    EXPECT_EQ(run.status, 1);
    EXPECT_NE(run.err.find("last.safetensors"), std::string::npos) << run.err;
  }
}

TEST_F(TrainProgram, RefusesACheckpointOfAnotherModel) {
  ASSERT_EQ(klab(tiny_run(path("a"))).status, 0);
  ASSERT_EQ(klab(tiny_run(path("b"), {"--model.mlp_width", "24"})).status, 0);
  fs::copy_file(path("b/checkpoint/last.safetensors"), path("a/checkpoint/last.safetensors"),
                fs::copy_options::overwrite_existing);
  const Finished run = klab({"resume", path("a")});
  EXPECT_EQ(run.status, 1);
  EXPECT_NE(run.err.find("another shape"), std::string::npos) << run.err;
}

TEST_F(TrainProgram, RefusesARunThatAnotherProcessTrains) {
  ASSERT_EQ(klab(tiny_run(path("a"))).status, 0);
  const auto lock = Lock::take(path("a/lock"));
  ASSERT_TRUE(lock);
  for (const std::vector<std::string>& command : {std::vector<std::string>{"resume", path("a")}, tiny_run(path("a"))}) {
    const Finished run = klab(command);
    EXPECT_EQ(run.status, 2);
    const std::string words = "'" + path("a") + "' is being trained by process " + std::to_string(::getpid()) + " on ";
    EXPECT_NE(run.err.find(words), std::string::npos) << run.err;
  }
}

TEST_F(TrainProgram, RefusesAFolderThatHoldsARun) {
  ASSERT_EQ(klab(tiny_run(path("a"))).status, 0);
  const Finished run = klab(tiny_run(path("a")));
  EXPECT_EQ(run.status, 2);
  EXPECT_NE(run.err.find("klab resume"), std::string::npos) << run.err;
}

}  // namespace
}  // namespace klab
