// SPDX-License-Identifier: Apache-2.0
#include "experiments/command/terminal_line.h"

#include <gtest/gtest.h>

#include <vector>

namespace klab {
namespace {

const std::string kPasted = "\x1b[200~", kPastedTo = "\x1b[201~";

struct Typed {
  std::vector<std::string> lines;
  std::string rest, echo;
  bool ended = false;
};

Typed typed(const std::string& bytes) {
  Typed all;
  TerminalLine line;
  for (const char byte : bytes) {
    const TerminalLine::Step step = line.push(byte, all.echo);
    if (step == TerminalLine::Step::kEntered) all.lines.push_back(line.take());
    all.ended = all.ended || step == TerminalLine::Step::kEnd;
  }
  all.rest = line.take();
  return all;
}

using Lines = std::vector<std::string>;

TEST(TerminalLine, EndsWithEnter) {
  const Typed all = typed("one\rtwo\n\rthree");
  EXPECT_EQ(all.lines, (Lines{"one", "two", ""}));
  EXPECT_EQ(all.rest, "three");
  EXPECT_EQ(all.echo, "one\ntwo\n\nthree");
}

TEST(TerminalLine, ErasesWholeCharactersWordsAndAll) {
  EXPECT_EQ(typed("ab\x7f\x08"
                  "c")
                .rest,
            "c");
  EXPECT_EQ(typed("x東\x7f").rest, "x");
  EXPECT_EQ(typed("x東\x7f").echo, "x東\b \b");
  EXPECT_EQ(typed("\x7f\x7fx").rest, "x");
  EXPECT_EQ(typed("two words  \x17").rest, "two ");
  EXPECT_EQ(typed("two words\x15x").rest, "x");
}

TEST(TerminalLine, APasteIsTextWithItsLineEnds) {
  const Typed all = typed("see " + kPasted + "a\rb\r\n\nc" + kPastedTo + "!\r");
  EXPECT_EQ(all.lines, Lines{"see a\nb\n\nc!"});
  EXPECT_EQ(all.echo, "see a\nb\n\nc!\n");
}

TEST(TerminalLine, APasteMayBeLongAndHoldAnything) {
  const std::string text = std::string(100'000, 'x') + "\x04\x15\x1b[A\x7f";
  const Typed all = typed(kPasted + text + kPastedTo + "\r");
  EXPECT_EQ(all.lines, Lines{text});
  EXPECT_EQ(all.echo.find('\x1b'), std::string::npos) << "the terminal does not see its control characters";
}

TEST(TerminalLine, ErasingStopsAtTheEndOfAPastedLine) {
  EXPECT_EQ(typed(kPasted + "a\nb" + kPastedTo +
                  "\x15\x7f"
                  "c")
                .rest,
            "a\nc");
}

TEST(TerminalLine, IgnoresOtherKeys) {
  EXPECT_EQ(typed("a\x1b[A\x1b[1;5C\x1bOH\x1b[3~\x01z").rest, "az");
  EXPECT_EQ(typed("a\x1b[A\x1b[1;5C\x1bOH\x1b[3~\x01z").echo, "az");
}

TEST(TerminalLine, CtrlDEndsAnEmptyLineOnly) {
  EXPECT_TRUE(typed("\x04").ended);
  EXPECT_FALSE(typed("a\x04").ended);
  EXPECT_EQ(typed("a\x04"
                  "b")
                .rest,
            "ab");
}

}  // namespace
}  // namespace klab
