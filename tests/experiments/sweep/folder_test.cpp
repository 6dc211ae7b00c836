// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/folder.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

TEST(Lock, IsHeldByOneAtATime) {
  const Folder folder;
  std::optional<Lock> first = Lock::take(folder / "lock");
  ASSERT_TRUE(first);
  EXPECT_FALSE(Lock::take(folder / "lock"));
  EXPECT_TRUE(Lock::take(folder / "other"));
  first.reset();
  EXPECT_TRUE(Lock::take(folder / "lock"));
}

TEST(Lock, MovesWithItsObject) {
  const Folder folder;
  std::optional<Lock> second;
  {
    std::optional<Lock> first = Lock::take(folder / "lock");
    second.emplace(std::move(*first));
  }
  EXPECT_FALSE(Lock::take(folder / "lock")) << "destroying the moved-from lock releases nothing";
  second.reset();
  EXPECT_TRUE(Lock::take(folder / "lock"));
}

TEST(Lock, NamesTheFileThatCannotBeMade) {
  const Folder folder;
  EXPECT_CONTAINS(failure_of([&] { Lock::take(folder / "none/lock"); }), folder / "none/lock");
}

TEST(SweepFolder, ReadsThePlanAndNamesItsFile) {
  const Folder folder;
  const SweepFolder sweep(folder.path());
  Plan plan;
  plan.name = "a sweep";
  write_file(sweep.plan(), to_text(plan));
  EXPECT_EQ(sweep.read_plan().name, "a sweep");
  write_file(sweep.plan(), "no plan");
  EXPECT_CONTAINS(failure_of([&] { sweep.read_plan(); }), sweep.plan());
}

}  // namespace
}  // namespace klab
