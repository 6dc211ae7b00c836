// SPDX-License-Identifier: Apache-2.0
#include "core/base/provenance.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>

#include "core/base/support.h"

namespace klab {
namespace {

using Words = std::vector<std::string>;

// The words that bash parses from a line.
Words read_by_bash(const std::string& line) {
  const Folder folder;
  std::ofstream(folder / "script") << "printf '%s\\0' " << line << "\n";
  const std::string command = "bash -c \"$(cat '" + (folder / "script") + "')\"";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  Words words(1);
  for (int c = std::fgetc(pipe.get()); c != EOF; c = std::fgetc(pipe.get())) {
    if (c == '\0') {
      words.emplace_back();
    } else {
      words.back() += static_cast<char>(c);
    }
  }
  words.pop_back();
  return words;
}

TEST(QuotedCommand, PlainWordsStayAsTheyAre) {
  EXPECT_EQ(quoted_command({"./klab", "train", "--train.lr=1e-3", "a_b@c%d+e:f,g"}),
            "./klab train --train.lr=1e-3 a_b@c%d+e:f,g");
}

TEST(QuotedCommand, OthersAreQuoted) {
  EXPECT_EQ(quoted_command({"", "a b", "it's", "1;2", "two\nlines"}), R"('' 'a b' 'it'\''s' '1;2' $'two\nlines')");
}

TEST(QuotedCommand, BashReadsTheSameWords) {
  Words words = {"./klab", "",         " ",     "a  b",        "it's",    "''",         "\\",
                 "\\n",    "$HOME",    "`ls`",  "!x",          "*",       "~",          "#no",
                 "a\"b",   "[1, 2]",   "{a,b}", "1;2|3&4>5<6", "länge ✓", "two\nlines", "tab\there's\\",
                 "\r",     "\x1b[1m7", "\x7f"};
  for (int c = 1; c < 256; ++c) words.push_back({'x', static_cast<char>(c), '7'});
  const std::string line = quoted_command(words);
  EXPECT_EQ(line.find_first_of("\r\n"), std::string::npos);
  EXPECT_EQ(read_by_bash(line), words);
}

TEST(Provenance, SaysWhereNumbersComeFrom) {
  const std::vector<std::string> lines = provenance("klab train a.yaml", 3);
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_CONTAINS(lines[0], "klab ");
  EXPECT_CONTAINS(lines[0], " commit ");
  EXPECT_CONTAINS(lines[1], "3 threads used");
  EXPECT_CONTAINS(lines[2], "libraries: torch 2.");
  EXPECT_EQ(lines[3], "command: klab train a.yaml");
}

}  // namespace
}  // namespace klab
