// SPDX-License-Identifier: Apache-2.0
#include "core/base/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

using Lines = std::vector<std::string>;
using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kPatience{30};

// Runs a shell command.
Lines shell(const std::string& command) { return {"sh", "-c", command}; }

// All output of a program until it ends; fails the test if it does not end.
Lines lines_until_end(Process& process) {
  Lines all;
  const Clock::time_point begin = Clock::now();
  for (bool over = false; !over;) {
    over = process.ended();
    for (std::string& line : process.lines()) all.push_back(std::move(line));
    if (Clock::now() - begin > kPatience) {
      ADD_FAILURE() << "the program does not end";
      return all;
    }
    if (!over) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return all;
}

int outcome_of(const Lines& words) {
  Process process(words);
  lines_until_end(process);
  return process.outcome();
}

TEST(Process, OutputOfBothStreamsComesInLines) {
  Process process(shell("echo out; echo err >&2; echo; printf 'no newline'"));
  EXPECT_EQ(lines_until_end(process), (Lines{"out", "err", "", "no newline"}));
  EXPECT_EQ(process.outcome(), 0);
  EXPECT_EQ(process.lines(), Lines{}) << "no line is returned twice";
}

TEST(Process, TheOutcomeIsTheExitCodeOrMinusTheSignal) {
  EXPECT_EQ(outcome_of(shell("exit 0")), 0);
  EXPECT_EQ(outcome_of(shell("exit 3")), 3);
  EXPECT_EQ(outcome_of(shell("exit 255")), 255);
  EXPECT_EQ(outcome_of(shell("kill -KILL $$")), -SIGKILL);
}

TEST(Process, IsReachedBySignals) {
  Process process({"sleep", "60"});
  EXPECT_FALSE(process.ended());
  process.signal(SIGTERM);
  lines_until_end(process);
  EXPECT_EQ(process.outcome(), -SIGTERM);
  process.signal(SIGTERM);  // must not be sent: the id may already belong to another process
  EXPECT_EQ(process.outcome(), -SIGTERM);
}

TEST(Process, AnIncompleteLineWaitsForItsEnd) {
  const Folder folder;
  const std::string gate = folder / "gate";
  ASSERT_EQ(::mkfifo(gate.c_str(), 0600), 0);
  Process process({"sh", "-c", R"(echo first; printf half; read -r word < "$0"; echo " and $word")", gate});
  Lines all;
  const Clock::time_point begin = Clock::now();
  while (all.empty() && Clock::now() - begin < kPatience) all = process.lines();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (const std::string& line : process.lines()) all.push_back(line);
  EXPECT_EQ(all, Lines{"first"});
  EXPECT_FALSE(process.ended());
  std::ofstream(gate) << "whole\n";
  EXPECT_EQ(lines_until_end(process), Lines{"half and whole"});
}

TEST(Process, LooksForProgramsOnThePathAndNamesThoseThatAreMissing) {
  EXPECT_CONTAINS(failure_of([] { Process({"klab-no-such-program", "x"}); }), "cannot start klab-no-such-program");
  EXPECT_CONTAINS(failure_of([] { Process({"/"}); }), "cannot start /");
}

TEST(Process, InputIsEmptyUnlessAFileIsGiven) {
  EXPECT_EQ(output_of({"cat"}), "");
  const Folder folder;
  write_file(folder / "in", "one\ntwo\n");
  EXPECT_EQ(output_of({"cat"}, {folder / "in", ""}), "one\ntwo");
  EXPECT_CONTAINS(failure_of([&] { output_of({"cat"}, {folder / "none", ""}); }), "cannot start cat");
}

TEST(Process, AFileInThePlaceOfStandardOutput) {
  const Folder folder;
  write_file(folder / "out", "a longer text than what comes");
  EXPECT_EQ(output_of(shell("printf new; echo aside >&2"), {"", folder / "out"}), "aside");
  EXPECT_EQ(read_file(folder / "out"), "new");
}

TEST(Process, WordsReachTheProgramAsTheyAre) {
  const Lines hostile = {"$HOME `id` $(id)", "a  b", "'", "\"", "\\n", "*", "", "ä → ö"};
  Lines words = {"printf", "<%s>"};
  std::string expected;
  for (const std::string& word : hostile) {
    words.push_back(word);
    expected += "<" + word + ">";
  }
  EXPECT_EQ(output_of(words), expected);
}

TEST(Process, ManyMegabytesComeThroughThePipe) {
  constexpr size_t kBytes = 3'000'000;  // far more than the capacity of a pipe
  const std::string all = output_of(shell("head -c 3000000 /dev/zero | tr '\\0' x"));
  EXPECT_EQ(all.size(), kBytes);
  EXPECT_EQ(all.find_first_not_of('x'), std::string::npos);
}

TEST(Process, AFailureIsToldInTheProgramsWords) {
  const std::string failure = failure_of([] { output_of(shell("echo wrote this; echo why >&2; exit 7")); });
  EXPECT_CONTAINS(failure, "sh failed (7): wrote this\nwhy");
  EXPECT_CONTAINS(failure_of([] { output_of(shell("kill -TERM $$")); }), "sh failed (-15)");
}

TEST(Process, EndsWithItsObjectAndMovesWithIt) {
  pid_t pid = 0;
  {
    std::vector<Process> all;
    all.emplace_back(Lines{"sleep", "60"});
    pid = all[0].id();
    all.emplace_back(shell("echo moved"));  // moves the first
    EXPECT_EQ(all[0].id(), pid);
    EXPECT_FALSE(all[0].ended());
    EXPECT_EQ(::kill(pid, 0), 0);
    EXPECT_EQ(lines_until_end(all[1]), Lines{"moved"});
  }
  EXPECT_NE(::kill(pid, 0), 0);
}

TEST(Process, KnowsWhichProgramsThereAre) {
  EXPECT_TRUE(has_program("sh"));
  EXPECT_FALSE(has_program("klab-no-such-program"));
  const Folder folder;
  write_file(folder / "plain", "#!/bin/sh\n");
  const std::string before = std::getenv("PATH");
  ::setenv("PATH", folder.path().c_str(), 1);
  EXPECT_FALSE(has_program("sh"));
  EXPECT_FALSE(has_program("plain")) << "a file without execute permission";
  std::filesystem::permissions(folder / "plain", std::filesystem::perms::owner_all);
  EXPECT_TRUE(has_program("plain"));
  ::unsetenv("PATH");
  EXPECT_FALSE(has_program("plain"));
  ::setenv("PATH", before.c_str(), 1);
}

}  // namespace
}  // namespace klab
