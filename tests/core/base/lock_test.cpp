// SPDX-License-Identifier: Apache-2.0
#include "core/base/lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

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

TEST(Lock, NamesTheProcessThatHoldsIt) {
  const Folder folder;
  write_file(folder / "lock", "process 123456789 on another.machine, which held it before\n");
  const std::optional<Lock> lock = Lock::take(folder / "lock");
  const std::string holder = Lock::holder(folder / "lock");
  EXPECT_TRUE(holder.starts_with("process " + std::to_string(::getpid()) + " on ")) << holder;
  EXPECT_EQ(holder.find("another.machine"), std::string::npos) << holder;
}

TEST(Lock, EndsWithItsProcess) {
  const Folder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = Lock::take(folder / "lock");
    ::_exit(lock ? 0 : 1);  // without destructors, as when it is killed
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_CONTAINS(Lock::holder(folder / "lock"), std::to_string(child));
  EXPECT_TRUE(Lock::take(folder / "lock"));
}

}  // namespace
}  // namespace klab
