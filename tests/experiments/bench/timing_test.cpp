// SPDX-License-Identifier: Apache-2.0
#include "experiments/bench/timing.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace klab {
namespace {

void sleep(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

TEST(MedianSeconds, IsNotMovedByOneLongCall) {
  int calls = 0;
  const double seconds = median_seconds([&] { sleep(++calls == 2 ? 100 : 5); }, at::zeros(1), /*budget=*/0);
  EXPECT_EQ(calls, 4) << "one to warm up, and three";
  EXPECT_GE(seconds, 0.005);
  EXPECT_LT(seconds, 0.1);
}

TEST(MedianSeconds, CallsUntilTheTimeIsSpent) {
  int calls = 0;
  median_seconds(
      [&] {
        ++calls;
        sleep(5);
      },
      at::zeros(1), /*budget=*/0.05);
  EXPECT_GT(calls, 4);
  EXPECT_LE(calls, 11);  // 50 ms in calls of 5 ms or more, and the one to warm up
}

TEST(MedianSeconds, TheFirstCallDoesNotCount) {
  int calls = 0;
  EXPECT_LT(median_seconds([&] { sleep(++calls == 1 ? 300 : 1); }, at::zeros(1), 0), 0.3);
  EXPECT_EQ(calls, 4);
}

}  // namespace
}  // namespace klab
