// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"
#include "core/rl/answer_log.h"
#include "fuzz/target.h"

namespace klab::fuzz {

// An answers.jsonl is read as it was written.
void answers(std::string_view input) {
  const std::string path = scratch_file("answers.jsonl", input);
  const std::vector<LoggedAnswer> all = read_answers(path);
  const std::string written = scratch_file("written.jsonl", "");
  append_answers(written, all);
  const std::vector<LoggedAnswer> again = read_answers(written);
  expect(again.size() == all.size(), "a written answer is lost");
  for (size_t i = 0; i < all.size(); ++i) {
    expect(to_object(again[i]) == to_object(all[i]), "a written answer is read as another one");
  }
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(answers)
