// SPDX-License-Identifier: Apache-2.0
// The calls to Slurm, with fake Slurm programs; tests/conformance runs sweeps through a real Slurm.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/base/file.h"
#include "core/base/process.h"
#include "core/base/support.h"
#include "core/base/text.h"
#include "experiments/sweep/launcher.h"

namespace klab {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

// The fake sbatch prints the file `answer` and records its arguments; squeue prints the file `queue`; scancel records
// its arguments and empties the queue.
class SlurmLauncherTest : public testing::Test {
 protected:
  SlurmLauncherTest() : before_(std::getenv("PATH")) {
    fs::create_directory(folder_ / "bin");
    fs::create_directory(folder_ / "it's a sweep");
    program("sbatch", "printf '%s\\n' \"$@\" >> '" + folder_ / "sbatch" + "'; cat '" + folder_ / "answer" + "'");
    program("squeue", "cat '" + folder_ / "queue" + "'");
    program("scancel", "printf '%s\\n' \"$@\" >> '" + folder_ / "scancel" + "'; : > '" + folder_ / "queue" + "'");
    write_file(folder_ / "answer", "12;cluster\n");
    write_file(folder_ / "queue", "");
    ::setenv("PATH", ((folder_ / "bin") + ":" + before_).c_str(), 1);
    options_.folder = folder_ / "it's a sweep";
    options_.device = "cuda";
    options_.threads = 3;
    options_.slurm = {"--partition=gpu", "--comment=a b"};
  }
  ~SlurmLauncherTest() override { ::setenv("PATH", before_.c_str(), 1); }

  void program(const std::string& name, const std::string& commands) {
    const std::string path = folder_ / ("bin/" + name);
    write_file(path, "#!/bin/sh\n" + commands + "\n");
    fs::permissions(path, fs::perms::owner_all);
  }
  // The arguments of a program's last call.
  Words called(const std::string& name) const { return split(trimmed(read_file(folder_ / name)), '\n'); }

  // Waits until the launcher queries Slurm again.
  static void wait_until_it_asks() { std::this_thread::sleep_for(std::chrono::milliseconds(2100)); }

  const Folder folder_;
  const std::string before_;
  LauncherOptions options_;
};

TEST_F(SlurmLauncherTest, StartsAnArrayOfWorkers) {
  const auto launcher = slurm_launcher(options_);
  EXPECT_EQ(launcher->alive(), 0);
  launcher->start(4);
  EXPECT_EQ(launcher->alive(), 4) << "pending, although the queue does not list them yet";
  const Words words = called("sbatch");
  for (const char* word : {"--parsable", "--array=0-3", "--cpus-per-task=3", "--partition=gpu", "--comment=a b"}) {
    EXPECT_EQ(std::count(words.begin(), words.end(), word), 1) << word;
  }
  const std::string script = options_.folder + "/slurm.sh";
  EXPECT_EQ(words.back(), script);

  // The words of the script's command.
  std::string text = read_file(script);
  const size_t exec = text.find("exec ");
  ASSERT_NE(exec, std::string::npos);
  text.replace(exec, 5, "printf '%s\\n' ");
  const std::string self = fs::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(split(output_of({"sh", "-c", text}), '\n'),
            (Words{self, "sweep-worker", options_.folder, "--threads", "3", "--device", "cuda"}));
}

TEST_F(SlurmLauncherTest, StartsNothingWhereNothingIsLeft) {
  const auto launcher = slurm_launcher(options_);
  launcher->start(0);
  EXPECT_FALSE(fs::exists(folder_ / "sbatch"));
  launcher->stop();
  EXPECT_FALSE(fs::exists(folder_ / "scancel"));
}

TEST_F(SlurmLauncherTest, CountsTheTasksOfItsOwnJobsAndCancelsThem) {
  const auto launcher = slurm_launcher(options_);
  launcher->start(4);
  write_file(folder_ / "answer", "15\n");
  launcher->start(2);
  write_file(folder_ / "queue", "12\n12\n112\n15\n120\n");  // three tasks of its own jobs, and other jobs
  wait_until_it_asks();
  EXPECT_EQ(launcher->alive(), 3);
  launcher->stop();
  EXPECT_EQ(called("scancel"), (Words{"12", "15"}));
  EXPECT_EQ(launcher->alive(), 0);
}

TEST_F(SlurmLauncherTest, HandsOnWhatSbatchSays) {
  const auto launcher = slurm_launcher(options_);
  write_file(folder_ / "answer", "Submitted batch job 12\n");
  EXPECT_CONTAINS(failure_of([&] { launcher->start(1); }), "Submitted batch job 12");
  program("sbatch", "echo 'error: invalid partition' >&2; exit 1");
  EXPECT_CONTAINS(failure_of([&] { launcher->start(1); }), "invalid partition");
}

// An empty answer has no job id.
TEST_F(SlurmLauncherTest, AnEmptyAnswerIsAnError) {
  const auto launcher = slurm_launcher(options_);
  write_file(folder_ / "answer", "");
  EXPECT_CONTAINS(failure_of([&] { launcher->start(1); }), "sbatch");
}

TEST_F(SlurmLauncherTest, NamesTheProgramThatIsMissing) {
  ::setenv("PATH", (folder_ / "bin").c_str(), 1);
  for (const char* name : {"sbatch", "squeue", "scancel"}) {
    const std::string path = folder_ / (std::string("bin/") + name);
    fs::rename(path, path + ".away");
    EXPECT_CONTAINS(failure_of([&] { slurm_launcher(options_); }), std::string("Slurm's ") + name);
    fs::rename(path + ".away", path);
  }
}

}  // namespace
}  // namespace klab
