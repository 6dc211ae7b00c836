// SPDX-License-Identifier: Apache-2.0
#include "tasks/json_lines.h"

#include "core/public/tokenizer.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// Prompts and answers of JSON Lines are texts.
void json_lines(std::string_view input) {
  size_t end = 0;
  for_each_pair("input.jsonl", input, {"prompt", "answer"}, [&](const TextPair& pair) {
    expect(!pair.prompt.empty() && !pair.answer.empty(), "a prompt or an answer is empty");
    expect(repaired_utf8(pair.prompt) == pair.prompt && repaired_utf8(pair.answer) == pair.answer, "it is not UTF-8");
    expect(pair.end >= end && pair.end <= input.size(), "a line ends outside of the file");
    end = pair.end;
  });
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(json_lines)
