// SPDX-License-Identifier: Apache-2.0
#include "tasks/prompt_answer.h"

#include <algorithm>

#include "core/base/error.h"

namespace klab {
namespace {

bool is_target(int64_t label) { return label != kNoTarget; }

}  // namespace

PromptAnswer prompt_and_answer(const Example& example) {
  if (std::count(example.starts.begin(), example.starts.end(), 1) > 1) {
    refuse("the row has several packed sequences; a task with prompts and answers has one sequence per row");
  }
  const std::vector<int64_t>& labels = example.labels;
  const auto first = std::find_if(labels.begin(), labels.end(), is_target);
  if (first == labels.end()) refuse("the row has no target, so it has no answer");
  const auto last = std::find(first, labels.end(), kNoTarget);
  if (std::find_if(last, labels.end(), is_target) != labels.end()) {
    refuse(
        "the row has several separate answers, but a prompt has one: give task.length a smaller value, at which a row "
        "has one question, or choose a task with one answer per row");
  }
  const auto input = example.inputs.begin() + (first - labels.begin()) + 1;  // the one after the prompt
  if (!std::equal(first, last - 1, input)) {
    refuse(
        "the row's inputs do not repeat the answer token by token, so it cannot be generated: the targets of the task "
        "are not the next tokens, as in state_tracking");
  }
  return {{example.inputs.begin(), input}, {first, last}};
}

Example answered_row(const PromptAnswer& tokens, int64_t length, int64_t pad, int64_t difficulty) {
  Example row;
  for (const int64_t token : tokens.prompt) row.append(token);
  for (const int64_t token : tokens.answer) {
    row.labels.back() = token;
    row.difficulty.back() = difficulty;
    row.append(token);
  }
  while (row.size() < length) row.append(pad);
  return row;
}

}  // namespace klab
