// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/folder.h"

#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/support.h"

namespace klab {
namespace {

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
