// Seeds the global generator before every test, which otherwise starts from another number in every process: a test
// draws the same numbers whichever others ran before it, and what fails once fails again. --gtest_shuffle
// --gtest_random_seed=N draws others.
#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace {

class Seed : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo& /*test*/) override {
    at::manual_seed(static_cast<uint64_t>(testing::UnitTest::GetInstance()->random_seed()));
  }
};

[[maybe_unused]] const bool listening = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new Seed);  // which owns it
  return true;
}();

}  // namespace
