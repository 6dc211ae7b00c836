// SPDX-License-Identifier: Apache-2.0
// Seeds the global generator before every test, so that a test gets the same random numbers in every run, independently
// of other tests. --gtest_shuffle --gtest_random_seed=N uses others.
#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace {

class Seed : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& /*test*/) override {
    at::manual_seed(static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()));
  }
};

[[maybe_unused]] const bool listening = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new Seed);  // takes ownership
  return true;
}();

}  // namespace
