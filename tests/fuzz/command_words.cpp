// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <vector>

#include "core/base/csv.h"
#include "core/base/provenance.h"
#include "fuzz/target.h"

namespace klab::fuzz {
namespace {

// Parses words like bash, as far as quoted_command() writes them.
class ShellWords {
 public:
  explicit ShellWords(const std::string& line) : line_(line) {}

  std::vector<std::string> all() {
    std::vector<std::string> words{""};
    while (at_ < line_.size()) {
      if (skip(" ")) {
        words.emplace_back();
      } else if (skip("$'")) {
        while (!skip("'")) words.back() += escaped();
      } else if (skip("'")) {
        while (!skip("'")) words.back() += next();
      } else if (skip("\\")) {
        words.back() += next();
      } else {
        words.back() += next();
      }
    }
    return words;
  }

 private:
  bool skip(std::string_view text) {
    if (line_.compare(at_, text.size(), text) != 0) return false;
    at_ += text.size();
    return true;
  }

  char next() {
    expect(at_ < line_.size(), "a quoted command has a quote without end");
    return line_[at_++];
  }

  // A character between $' and '.
  char escaped() {
    if (!skip("\\")) return next();
    const char c = next();
    if (c == 'n') return '\n';
    if (c == 't') return '\t';
    if (c < '0' || c > '7') return c;
    const int high = c - '0', middle = next() - '0', low = next() - '0';
    return static_cast<char>(64 * high + 8 * middle + low);
  }

  const std::string& line_;
  size_t at_ = 0;
};

}  // namespace

// The words of a command line, each ended by a zero byte: they are recovered from the header of a results file.
void command_words(std::string_view input) {
  std::vector<std::string> words;
  do {
    const auto [word, rest] = halves(input, std::string_view("\0", 1));
    words.emplace_back(word);
    input = rest;
  } while (!input.empty());
  const std::string line = quoted_command(words);
  const bool printable = std::none_of(line.begin(), line.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; });
  expect(printable, "a quoted command has a control character");
  expect(ShellWords(line).all() == words, "a quoted command has other words");
  const CsvTable table = read_csv(scratch_file("results.csv", CsvTable{{"command: " + line}, {"a"}, {}}.text()));
  expect(table.comments == std::vector<std::string>{"command: " + line}, "a header is read as another one");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(command_words)
