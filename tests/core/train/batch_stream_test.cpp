// SPDX-License-Identifier: Apache-2.0
#include "core/train/batch_stream.h"

#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <atomic>
#include <chrono>

namespace klab {
namespace {

Batch numbered(int64_t index) { return {torch::full({1, 1}, index, torch::kLong), torch::zeros({1, 1}, torch::kLong)}; }

TEST(BatchStream, GivesEveryBatchOnceInOrderFromTheFirst) {
  BatchStream stream(numbered, 7);
  for (int64_t i = 7; i < 200; ++i) EXPECT_EQ(stream.next().inputs.item<int64_t>(), i);
}

TEST(BatchStream, WorksAheadButNotWithoutBound) {
  std::atomic<int64_t> made = 0;
  BatchStream stream(
      [&](int64_t index) {
        ++made;
        return numbered(index);
      },
      0, /*ahead=*/3);
  for (int wait = 0; wait < 500 && made < 4; ++wait) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(made, 4);  // three ready, one in progress
}

TEST(BatchStream, MeasuresWaiting) {
  BatchStream slow(
      [](int64_t index) {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        return numbered(index);
      },
      0);
  for (int i = 0; i < 3; ++i) slow.next();
  EXPECT_GT(slow.waited(), 0.05);
}

TEST(BatchStream, HandsOnWhatTheSourceThrew) {
  BatchStream stream(
      [](int64_t index) {
        if (index == 2) throw std::runtime_error("no more");
        return numbered(index);
      },
      0);
  stream.next();
  stream.next();
  EXPECT_THROW(stream.next(), std::runtime_error);
}

TEST(BatchStream, EndsWhileTheProducerWaits) {
  for (int i = 0; i < 50; ++i) BatchStream stream(numbered, 0);
}

}  // namespace
}  // namespace klab
