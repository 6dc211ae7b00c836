// SPDX-License-Identifier: Apache-2.0
// The answers.jsonl of a run: sampled answers with their rewards.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/rl/answer.h"

namespace klab {

/// A line of answers.jsonl, in words.
struct LoggedAnswer {
  int64_t step = 0;
  std::string split;  ///< train (sampled) or validation (greedy)
  std::string prompt, reference, answer;
  double reward = 0;

  template <class Self, class Visit>
  static void each_field(Self& self, const Visit& visit) {
    visit("step", self.step);
    visit("split", self.split);
    visit("prompt", self.prompt);
    visit("reference", self.reference);
    visit("answer", self.answer);
    visit("reward", self.reward);
  }
};

/// The tokens' names, separated by spaces.
LoggedAnswer logged(int64_t step, const std::string& split, const Answer& answer,
                    const std::function<std::string(int64_t)>& token_name);

/// All lines of a file; none if there is no file. Throws Error that names the line for a damaged file; an incomplete
/// last line is left out.
std::vector<LoggedAnswer> read_answers(const std::string& path);

/// Adds lines at the end of the file.
void append_answers(const std::string& path, const std::vector<LoggedAnswer>& answers);

/// Removes the answers of later steps, which are the last ones, for a run that is resumed.
void keep_answers_until(const std::string& path, int64_t step);

}  // namespace klab
