// SPDX-License-Identifier: Apache-2.0
// Workers on this machine; here shell scripts.
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "core/base/file.h"
#include "core/base/support.h"
#include "experiments/sweep/launcher.h"

namespace klab {
namespace {

using Clock = std::chrono::steady_clock;

class LocalLauncherTest : public testing::Test {
 protected:
  // A launcher of workers with these commands, which say "ready" when they begin; there is one such worker.
  std::unique_ptr<Launcher> launched(const std::string& commands, std::chrono::milliseconds grace) {
    LauncherOptions options;
    options.folder = folder_.path();
    options.device = "cpu";
    options.program = folder_ / "worker";
    options.grace = grace;
    write_file(options.program, "#!/bin/sh\n" + commands + "\n");
    std::filesystem::permissions(options.program, std::filesystem::perms::owner_all);
    auto launcher = local_launcher(options);
    launcher->start(1);
    const auto end = Clock::now() + std::chrono::seconds(10);
    while (launcher->look().lines != std::vector<std::string>{"ready"} && Clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return launcher;
  }

  const Folder folder_;
};

double seconds_to_stop(Launcher& launcher) {
  const auto begin = Clock::now();
  launcher.stop();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

TEST_F(LocalLauncherTest, AWorkerEndsByItselfWhenItIsAskedTo) {
  const auto launcher =
      launched("trap 'echo ended >> \"$2/end\"; exit 143' TERM; echo ready; while :; do sleep 0.01; done",
               std::chrono::seconds(60));
  EXPECT_LT(seconds_to_stop(*launcher), 30);
  EXPECT_EQ(launcher->alive(), 0);
  EXPECT_EQ(read_file(folder_ / "end"), "ended\n");
}

TEST_F(LocalLauncherTest, AWorkerThatDoesNotEndIsKilled) {
  const auto launcher =
      launched("trap '' TERM INT; echo ready; while :; do sleep 0.01; done", std::chrono::milliseconds(300));
  const double seconds = seconds_to_stop(*launcher);
  EXPECT_GE(seconds, 0.3) << "not before its time";
  EXPECT_LT(seconds, 30);
  EXPECT_EQ(launcher->alive(), 0);
}

}  // namespace
}  // namespace klab
