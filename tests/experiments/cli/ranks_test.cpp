// SPDX-License-Identifier: Apache-2.0
// klab train --processes N: ranks that end before their time, and what they leave. tests/conformance/test_ranks.py has
// the other launchers.
#include <ATen/ATen.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/process.h"
#include "core/base/text.h"
#include "core/io/checkpoint.h"
#include "experiments/cli/support.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

bool within(double seconds, const std::function<bool()>& condition) {
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return condition();
}

std::vector<pid_t> children_of(pid_t process) {
  std::ifstream file(fmt::format("/proc/{0}/task/{0}/children", process));
  std::vector<pid_t> all;
  for (pid_t child = 0; file >> child;) all.push_back(child);
  return all;
}

class RanksProgram : public ProgramTest {
 protected:
  // With accumulation, because then the sums are the same to the bit for one rank and two.
  std::vector<std::string> run(const std::string& out, const std::vector<std::string>& more) const {
    std::vector<std::string> flags;
    for (const auto& [flag, value] : {std::pair{"--train.accumulate", "2"},
                                      {"--train.steps", "300"},
                                      {"--train.eval_every", "100"},
                                      {"--train.checkpoint_every", "10"},
                                      {"--train.stop_at", "2"}}) {
      if (std::find(more.begin(), more.end(), flag) == more.end()) flags.insert(flags.end(), {flag, value});
    }
    flags.insert(flags.end(), more.begin(), more.end());
    std::vector<std::string> words = tiny_run(path(out), flags);
    words.emplace_back("--zero");
    return words;
  }

  std::string last(const std::string& out) const { return path(out) + "/checkpoint/last.safetensors"; }

  // Runs in the background until there is a checkpoint.
  Process started(const std::string& out, const std::vector<std::string>& more) const {
    std::vector<std::string> words{KLAB_PROGRAM};
    for (const std::string& word : run(out, more)) words.push_back(word);
    Process process(words);
    EXPECT_TRUE(within(60, [&] { return fs::exists(last(out)) || process.ended(); }));
    EXPECT_FALSE(process.ended()) << join(process.lines(), "\n");
    return process;
  }

  void expect_same(const std::string& a, const std::string& b) const {
    const Checkpoint x = load_checkpoint(last(a)), y = load_checkpoint(last(b));
    EXPECT_EQ(x.field("step"), y.field("step"));
    ASSERT_EQ(x.tensors.size(), y.tensors.size());
    for (const auto& [name, tensor] : x.tensors) EXPECT_TRUE(at::equal(tensor, y.tensor(name))) << name;
    EXPECT_EQ(timeless_rows(path(a) + "/metrics.csv"), timeless_rows(path(b) + "/metrics.csv"));
  }
};

TEST_F(RanksProgram, AKilledRankEndsTheOthersAndTheRunResumesToTheSameBits) {
  ASSERT_EQ(klab(run("whole", {})).status, 0);
  for (const size_t victim : {0, 1}) {
    const std::string out = fmt::format("killed{}", victim);
    std::vector<std::string> two{"--processes", "2"};
    if (victim == 1) two.push_back("--shard-checkpoints");
    Process process = started(out, two);
    const std::vector<pid_t> ranks = children_of(process.id());
    ASSERT_EQ(ranks.size(), 2);
    ::kill(ranks[victim], SIGKILL);
    EXPECT_TRUE(within(20, [&] { return process.ended(); })) << "the other rank went on";
    EXPECT_EQ(process.outcome(), 128 + SIGKILL);
    const std::string output = join(process.lines(), "\n");
    EXPECT_NE(output.find(fmt::format("rank {} was killed by signal 9", victim)), std::string::npos) << output;
    const Finished rest = klab({"resume", path(out), "--quiet", "--processes", victim == 0 ? "2" : "1"});
    ASSERT_EQ(rest.status, 0) << rest.err;
    expect_same(out, "whole");
  }
}

TEST_F(RanksProgram, AnInterruptedRunResumesWithAnotherNumberOfRanks) {
  ASSERT_EQ(klab(run("whole", {})).status, 0);
  Process process = started("part", {"--processes", "2", "--shard-checkpoints"});
  process.signal(SIGTERM);
  EXPECT_TRUE(within(20, [&] { return process.ended(); }));
  EXPECT_EQ(process.outcome(), 128 + SIGTERM) << join(process.lines(), "\n");
  ASSERT_EQ(klab({"resume", path("part"), "--quiet"}).status, 0);
  expect_same("part", "whole");
}

TEST_F(RanksProgram, RanksEndWithTheirLauncher) {
  Process process = started("a", {"--processes", "2", "--train.steps", "100000"});
  const std::vector<pid_t> ranks = children_of(process.id());
  ASSERT_EQ(ranks.size(), 2);
  process.signal(SIGKILL);
  for (const pid_t rank : ranks) {
    EXPECT_TRUE(within(20, [&] { return !fs::exists(fmt::format("/proc/{}", rank)); })) << "rank " << rank << " lives";
    ::kill(rank, SIGKILL);
  }
}

TEST_F(RanksProgram, SharesExpertsAndIsResumedByOneProcess) {
  const std::vector<std::string> experts = {"--train.steps",
                                            "20",
                                            "--model.first_dense",
                                            "0",
                                            "--model.moe.experts",
                                            "4",
                                            "--model.moe.experts_per_token",
                                            "2",
                                            "--model.moe.expert_width",
                                            "8",
                                            "--test.also",
                                            "{length: 12}"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = experts;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const Finished shared = klab(run("shared", with({"--processes", "2", "--ep", "2"})));
  ASSERT_EQ(shared.status, 0) << shared.err;
  const Finished one = klab(run("one", experts));
  ASSERT_EQ(one.status, 0) << one.err;
  const Checkpoint a = load_checkpoint(last("shared")), b = load_checkpoint(last("one"));
  EXPECT_EQ(a.tensors.size(), b.tensors.size());
  EXPECT_TRUE(fs::exists(path("shared") + "/evaluations.csv"));
  ASSERT_EQ(klab({"resume", path("shared"), "--quiet"}).status, 0);  // at its end: evaluates
  const Finished dense = klab(run("dense", {"--processes", "2", "--ep", "2"}));
  EXPECT_EQ(dense.status, 1);
  EXPECT_NE(dense.err.find("--ep 2: there are no experts to share"), std::string::npos) << dense.err;
}

TEST_F(RanksProgram, RefusesWhatCannotBeShared) {
  const Finished batch = klab(run("a", {"--processes", "3", "--train.batch", "2", "--train.accumulate", "1"}));
  EXPECT_EQ(batch.status, 1);
  EXPECT_NE(batch.err.find("train.batch = 2 must be at least 3"), std::string::npos) << batch.err;
  const Finished context = klab(run("b", {"--processes", "2", "--cp", "4"}));
  EXPECT_EQ(context.status, 2);
  EXPECT_NE(context.err.find("--cp = 4 must divide the 2 ranks"), std::string::npos) << context.err;
  ASSERT_EQ(klab(run("c", {"--train.steps", "1"})).status, 0);
  const Finished again = klab(run("c", {"--processes", "2", "--train.steps", "1"}));
  EXPECT_EQ(again.status, 2);
  EXPECT_NE(again.err.find("already contains a run"), std::string::npos) << again.err;
}

}  // namespace
}  // namespace klab
