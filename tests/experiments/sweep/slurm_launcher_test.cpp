// SPDX-License-Identifier: Apache-2.0
// The calls to Slurm, with fake Slurm programs; tests/conformance runs sweeps through a real Slurm.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <set>
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
// its arguments and empties the queue. Each fails while there is a file `NAME.fails`, from which it removes a line.
class SlurmLauncherTest : public testing::Test {
 protected:
  SlurmLauncherTest() : before_(std::getenv("PATH")) {
    fs::create_directory(folder_ / "bin");
    fs::create_directory(folder_ / "it's a sweep");
    program("sbatch", "printf '%s\\n' \"$@\" >> '" + folder_ / "sbatch" + "'; cat '" + folder_ / "answer" + "'");
    program("squeue", "printf '%s\\n' \"$@\" > '" + folder_ / "squeue" + "'; cat '" + folder_ / "queue" + "'");
    program("scancel", "printf '%s\\n' \"$@\" >> '" + folder_ / "scancel" + "'; : > '" + folder_ / "queue" + "'");
    write_file(folder_ / "answer", "12;cluster\n");
    write_file(folder_ / "queue", "");
    ::setenv("PATH", ((folder_ / "bin") + ":" + before_).c_str(), 1);
    options_.folder = folder_ / "it's a sweep";
    options_.device = "cuda";
    options_.threads = 3;
    options_.slurm = {"--partition=gpu", "--comment=a b"};
    options_.pause = std::chrono::milliseconds(50);
  }
  ~SlurmLauncherTest() override { ::setenv("PATH", before_.c_str(), 1); }

  void program(const std::string& name, const std::string& commands) {
    const std::string path = folder_ / ("bin/" + name);
    const std::string fails = folder_ / (name + ".fails");
    write_file(path, "#!/bin/sh\nif [ -s '" + fails + "' ]; then sed -i 1d '" + fails + "'; echo '" + name +
                         ": error: Socket timed out on send/recv operation' >&2; exit 1; fi\n" + commands + "\n");
    fs::permissions(path, fs::perms::owner_all);
  }
  // The arguments of a program's last call.
  Words called(const std::string& name) const { return split(trimmed(read_file(folder_ / name)), '\n'); }

  // The name of the jobs, by the last call of sbatch.
  std::string job_name() const {
    for (const std::string& word : called("sbatch")) {
      if (word.starts_with("--job-name=")) return word.substr(11);
    }
    return "";
  }
  // The next calls of a program fail.
  void fails(const std::string& name, size_t times) const {
    write_file(folder_ / (name + ".fails"), std::string(times, '\n'));
  }

  // Waits until the launcher queries Slurm again; longer after failures.
  void wait_until_it_asks(int pauses = 2) const {
    std::this_thread::sleep_for(options_.pause * pauses + std::chrono::milliseconds(5));
  }

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
  write_file(folder_ / "answer", "sbatch: warning: the partition is busy\n15\n");
  launcher->start(2);
  write_file(folder_ / "queue", "squeue: warning\n12\n12\n15\n");
  wait_until_it_asks();
  EXPECT_EQ(launcher->alive(), 3);
  EXPECT_EQ(called("squeue"), (Words{"-h", "-r", "-o", "%F", "-n", job_name()}));
  launcher->stop();
  EXPECT_EQ(called("scancel"), (Words{"-n", job_name()}));
  EXPECT_EQ(launcher->alive(), 0);
}

TEST_F(SlurmLauncherTest, EachHasAJobNameOfItsOwn) {
  std::set<std::string> names;
  for (int i = 0; i < 2; ++i) {
    slurm_launcher(options_)->start(1);
    names.insert(job_name());
    fs::remove(folder_ / "sbatch");
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(names.size(), 2u);
  for (const std::string& name : names) EXPECT_TRUE(name.starts_with("klab-sweep-")) << name;
}

TEST_F(SlurmLauncherTest, ACallThatFailsIsRepeated) {
  const auto launcher = slurm_launcher(options_);
  fails("sbatch", 2);
  launcher->start(2);
  EXPECT_EQ(launcher->alive(), 2);
  EXPECT_EQ(launcher->look().lines.size(), 2u);
  EXPECT_TRUE(launcher->look().lines.empty());
  fails("scancel", 2);
  fails("squeue", 2);
  launcher->stop();
  EXPECT_EQ(called("scancel"), (Words{"-n", job_name()}));
}

TEST_F(SlurmLauncherTest, AQuestionWithoutAnswerIsAskedAgainWithGrowingPauses) {
  const auto launcher = slurm_launcher(options_);
  launcher->start(2);
  write_file(folder_ / "queue", "12\n");
  fails("squeue", 1);
  wait_until_it_asks();
  EXPECT_EQ(launcher->alive(), 2) << "as before";
  const std::vector<std::string> lines = launcher->look().lines;
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_CONTAINS(lines[0], "Socket timed out");
  EXPECT_EQ(launcher->alive(), 2) << "not yet";
  wait_until_it_asks(4);
  EXPECT_EQ(launcher->alive(), 1);
}

TEST_F(SlurmLauncherTest, GivesUpAfterSeveralFailures) {
  options_.pause = std::chrono::milliseconds(1);
  const auto launcher = slurm_launcher(options_);
  launcher->start(2);
  fails("squeue", 1000);
  const std::string failure = failure_of([&] {
    for (int i = 0; i < 1000; ++i, wait_until_it_asks()) launcher->alive();
  });
  EXPECT_CONTAINS(failure, "squeue");
  EXPECT_CONTAINS(failure, "Socket timed out");
  fails("squeue", 0);
  fails("scancel", 1000);
  EXPECT_CONTAINS(failure_of([&] { launcher->stop(); }), "Cancel them with 'scancel -n " + job_name() + "'");
  fails("sbatch", 1000);
  EXPECT_CONTAINS(failure_of([&] { launcher->start(1); }), "Socket timed out");
}

// The answer of a job that was submitted may be lost.
TEST_F(SlurmLauncherTest, CancelsWhatItMayHaveSubmitted) {
  const auto launcher = slurm_launcher(options_);
  write_file(folder_ / "answer", "");
  EXPECT_CONTAINS(failure_of([&] { launcher->start(1); }), "sbatch answered");
  write_file(folder_ / "queue", "12\n");
  launcher->stop();
  EXPECT_EQ(called("scancel"), (Words{"-n", job_name()}));
}

TEST_F(SlurmLauncherTest, OptionsOnWhichItReliesAreRefusedByName) {
  const auto refusal = [&](const Words& words) {
    options_.slurm = words;
    return message_of<UsageError>([&] { slurm_launcher(options_); });
  };
  const std::vector<std::pair<Words, std::string>> refused = {{{"--job-name=mine"}, "--job-name"},
                                                              {{"--job-name", "mine"}, "--job-name"},
                                                              {{"--job=mine"}, "--job-name"},
                                                              {{"-Jmine"}, "--job-name"},
                                                              {{"-HJ", "mine"}, "--job-name"},
                                                              {{"-p", "gpu", "-a0-3"}, "--array"},
                                                              {{"--array=0-3"}, "--array"},
                                                              {{"--parsable"}, "--parsable"},
                                                              {{"-M", "other"}, "--clusters"},
                                                              {{"--clusters=other"}, "--clusters"},
                                                              {{"-W"}, "--wait"},
                                                              {{"--wait"}, "--wait"},
                                                              {{"-oout"}, "--output"},
                                                              {{"--output=out"}, "--output"},
                                                              {{"--error=err"}, "--error"},
                                                              {{"--wrap=true"}, "--wrap"},
                                                              {{"--chdir=/"}, "--chdir"},
                                                              {{"--test-only"}, "--test-only"},
                                                              {{"--help"}, "--help"}};
  for (const auto& [words, name] : refused) {
    EXPECT_CONTAINS(refusal(words), "a sweep does not accept " + name + ":");
  }
  EXPECT_CONTAINS(refusal({"other.sh"}), "'other.sh' is not an option of sbatch");
  EXPECT_CONTAINS(refusal({"--comment='a", "b'", "c'"}), "'b'' is not an option of sbatch");
  EXPECT_CONTAINS(refusal({"-pgpu", "other.sh"}), "'other.sh' is not an option of sbatch");
  EXPECT_FALSE(fs::exists(folder_ / "sbatch"));
  for (const Words& words : std::vector<Words>{{"--partition=gpu", "--gres=gpu:1", "-t60", "--exclusive"},
                                               {"-p", "gpu", "--account", "mine", "-H", "--wait-all-nodes=1"},
                                               {"--open-mode=append", "--cpus-per-task=8", "--comment=-J"}}) {
    options_.slurm = words;
    EXPECT_NO_THROW(slurm_launcher(options_));
  }
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
