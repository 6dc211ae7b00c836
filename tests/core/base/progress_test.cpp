// SPDX-License-Identifier: Apache-2.0
#include "core/base/progress.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/support.h"

namespace klab {
namespace {

// Captured standard error is a file, so these tests see the plain mode.
std::string printed(const std::function<void()>& action) {
  testing::internal::CaptureStderr();
  action();
  return testing::internal::GetCapturedStderr();
}

TEST(Progress, QuietPrintsNothing) {
  EXPECT_EQ(printed([] {
              Progress progress("train", 3, 0, true);
              for (int i = 1; i <= 3; ++i) progress.update(i, "loss 1");
              progress.note("a note");
            }),
            "");
}

TEST(Progress, PlainModePrintsTheFinalLine) {
  const std::string text = printed([] {
    Progress progress("train", 1000);
    for (int i = 1; i <= 1000; ++i) progress.update(i, "loss 0.5");
  });
  EXPECT_CONTAINS(text, "train 1000/1000 loss 0.5  left 0:00\n");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
}

TEST(Progress, PlainModeHasNoControlCharacters) {
  const std::string text = printed([] {
    Progress progress("train", 2);
    progress.note("begins");
    progress.update(2, "done");
    progress.note("ends");
  });
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.rfind("begins\n", 0), 0u);
  EXPECT_EQ(text.substr(text.size() - 5), "ends\n");
}

TEST(Progress, EscapesControlCharactersOfNames) {
  const std::string text = printed([] {
    Progress progress("\x1b[2Jname", 1);
    progress.note("note\x07");
    progress.update(1, "status\r");
  });
  EXPECT_EQ(text, "note\\x07\n\\x1b[2Jname 1/1 status\\x0d  left 0:00\n");
}

TEST(Progress, ResumedAtTheEndPrintsOnce) {
  const std::string text = printed([] {
    Progress progress("train", 5, 5);
    progress.update(5, "loss 1");
  });
  EXPECT_CONTAINS(text, "train 5/5 loss 1");
}

TEST(Progress, ATotalOfZeroIsNoDivisionByZero) {
  EXPECT_CONTAINS(printed([] {
                    Progress progress("train", 0);
                    progress.update(1, "x");
                  }),
                  "train 1/1 x");
}

}  // namespace
}  // namespace klab
