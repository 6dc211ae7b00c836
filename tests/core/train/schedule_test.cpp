// SPDX-License-Identifier: Apache-2.0
#include "core/train/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace klab {
namespace {

constexpr double kPeak = 0.7;

Schedule wsd(const std::string& decay, double final_lr = 0) {
  Schedule schedule;
  schedule.schedule = "wsd";
  schedule.warmup_ratio = 0.1;
  schedule.decay_ratio = 0.2;
  schedule.decay = decay;
  schedule.final_lr = final_lr;
  return schedule;
}

// As it was before there were other schedules.
double earlier_cosine(int64_t step, int64_t steps, double warmup_ratio, double lr) {
  const double warm = std::max(1.0, std::floor(warmup_ratio * static_cast<double>(steps)));
  const auto s = static_cast<double>(step);
  if (s <= warm) return lr * s / warm;
  const double rest = static_cast<double>(steps) - warm;
  return lr * 0.5 * (1 + std::cos(std::numbers::pi * (s - warm) / std::max(rest, 1.0)));
}

TEST(Schedule, TheDefaultIsTheEarlierCosineToTheBit) {
  Schedule schedule;
  for (const int64_t steps : {1, 2, 3, 19, 20, 1000, 3001}) {
    for (const double ratio : {0.0, 0.05, 0.3, 1.0}) {
      schedule.warmup_ratio = ratio;
      for (int64_t step = 1; step <= steps; ++step) {
        EXPECT_EQ(schedule.lr_at(step, steps, 3e-3), earlier_cosine(step, steps, ratio, 3e-3)) << step << "/" << steps;
      }
    }
  }
}

TEST(Schedule, CosineEndsAtItsFloor) {
  Schedule schedule;
  schedule.warmup_ratio = 0.1;
  schedule.final_lr = 0.25;
  EXPECT_EQ(schedule.lr_at(10, 100, kPeak), kPeak);
  EXPECT_DOUBLE_EQ(schedule.lr_at(55, 100, kPeak), 0.625 * kPeak);
  EXPECT_EQ(schedule.lr_at(100, 100, kPeak), 0.25 * kPeak);
}

TEST(Schedule, ConstantStaysAtThePeak) {
  Schedule schedule;
  schedule.schedule = "constant";
  schedule.warmup_ratio = 0.1;
  EXPECT_EQ(schedule.lr_at(1, 100, kPeak), kPeak / 10);
  for (int64_t step = 10; step <= 100; ++step) EXPECT_EQ(schedule.lr_at(step, 100, kPeak), kPeak) << step;
}

TEST(Schedule, WarmsUpStaysAndDecays) {
  for (const char* decay : {"linear", "cosine", "sqrt", "halving"}) {
    const Schedule schedule = wsd(decay);
    EXPECT_EQ(schedule.lr_at(1, 100, kPeak), kPeak / 10) << decay;
    EXPECT_EQ(schedule.lr_at(9, 100, kPeak), kPeak * 9 / 10) << decay;
    for (int64_t step = 10; step <= 80; ++step) EXPECT_EQ(schedule.lr_at(step, 100, kPeak), kPeak) << decay << step;
    for (int64_t step = 80; step < 100; ++step) {
      EXPECT_LT(schedule.lr_at(step + 1, 100, kPeak), schedule.lr_at(step, 100, kPeak)) << decay << step;
    }
    EXPECT_EQ(schedule.last_stable_step(100), 80);
  }
}

TEST(Schedule, DecaysByItsShape) {
  EXPECT_DOUBLE_EQ(wsd("linear").lr_at(81, 100, kPeak), kPeak * 19 / 20);
  EXPECT_DOUBLE_EQ(wsd("linear").lr_at(85, 100, kPeak), kPeak * 0.75);
  EXPECT_DOUBLE_EQ(wsd("cosine").lr_at(90, 100, kPeak), kPeak * 0.5);
  EXPECT_DOUBLE_EQ(wsd("cosine").lr_at(85, 100, kPeak), kPeak * (0.5 + std::sqrt(0.125)));
  EXPECT_DOUBLE_EQ(wsd("sqrt").lr_at(85, 100, kPeak), kPeak * 0.5);
  EXPECT_DOUBLE_EQ(wsd("sqrt").lr_at(81, 100, kPeak), kPeak * (1 - std::sqrt(0.05)));
  EXPECT_DOUBLE_EQ(wsd("halving").lr_at(82, 100, kPeak), kPeak / 2);
  EXPECT_DOUBLE_EQ(wsd("halving").lr_at(90, 100, kPeak), kPeak / 32);
}

TEST(Schedule, EndsExactlyAtTheFloor) {
  for (const double floor : {0.0, 0.1, 1.0}) {
    for (const char* decay : {"linear", "cosine", "sqrt"}) {
      EXPECT_EQ(wsd(decay, floor).lr_at(100, 100, kPeak), kPeak * floor) << decay << floor;
    }
  }
  EXPECT_EQ(wsd("halving").lr_at(100, 100, kPeak), kPeak / 1024);
  EXPECT_EQ(wsd("halving", 0.1).lr_at(100, 100, kPeak), kPeak * 0.1);
  EXPECT_DOUBLE_EQ(wsd("linear", 0.2).lr_at(90, 100, kPeak), kPeak * 0.6) << "half way from the peak to the floor";
  EXPECT_EQ(wsd("halving", 0.3).lr_at(82, 100, kPeak), kPeak * 0.5) << "above the floor it is only a limit";
}

TEST(Schedule, TheWarmUpComesBeforeTheDecayWhereBothDoNotFit) {
  Schedule schedule = wsd("linear");
  schedule.warmup_ratio = 0.75;
  schedule.decay_ratio = 0.5;
  EXPECT_EQ(schedule.last_stable_step(8), 6);
  EXPECT_DOUBLE_EQ(schedule.lr_at(6, 8, kPeak), kPeak);
  EXPECT_DOUBLE_EQ(schedule.lr_at(7, 8, kPeak), kPeak / 2);
  EXPECT_EQ(schedule.lr_at(8, 8, kPeak), 0);
  schedule.warmup_ratio = 1;
  EXPECT_EQ(schedule.lr_at(8, 8, kPeak), kPeak);
}

TEST(Schedule, WorksForFewSteps) {
  for (const char* name : {"constant", "cosine", "wsd"}) {
    for (const double ratio : {0.0, 0.1, 1.0}) {
      Schedule schedule;
      schedule.schedule = name;
      schedule.warmup_ratio = 0;
      schedule.decay_ratio = ratio;
      EXPECT_EQ(schedule.lr_at(1, 1, kPeak), kPeak) << name << ratio;
      EXPECT_EQ(schedule.lr_at(1, 2, kPeak), kPeak) << name << ratio;
    }
  }
  EXPECT_EQ(wsd("linear").last_stable_step(2), 2) << "a fifth of two steps is less than half a step";
  EXPECT_EQ(wsd("linear").last_stable_step(3), 2);
  Schedule schedule = wsd("linear");
  schedule.decay_ratio = 0.29;  // 0.29 * 100 is a little less than 29
  EXPECT_EQ(schedule.last_stable_step(100), 71);
}

}  // namespace
}  // namespace klab
