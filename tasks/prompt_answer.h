// SPDX-License-Identifier: Apache-2.0
// Rows that consist of a prompt and its answer.
#pragma once

#include "tasks/task.h"

namespace klab {

struct PromptAnswer {
  std::vector<int64_t> prompt, answer;  ///< token ids; neither is empty
};

/// The prompt and the answer of a row that can be answered autoregressively. The prompt is the inputs up to and
/// including the first position with a target, the answer the labels from there on. Throws UsageError if the row has no
/// target, more than one answer, more than one sequence (Example::starts), or inputs that do not repeat the answer.
PromptAnswer prompt_and_answer(const Example& example);

/// The row of `length` positions with that prompt and answer, each token of the answer with `difficulty`. The answer's
/// last token is an input too; `pad` fills the rest. `length` is at least the number of tokens.
Example answered_row(const PromptAnswer& tokens, int64_t length, int64_t pad, int64_t difficulty);

}  // namespace klab
