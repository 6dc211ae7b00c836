// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/plan.h"

#include "fuzz/target.h"

namespace klab::fuzz {

// The plan of a sweep is read as it was written, and its runs can be put into the order of its file.
void plan(std::string_view input) {
  const Plan read = plan_of(std::string(input), "plan.json");
  const std::string text = to_text(read);
  expect(to_text(plan_of(text, "plan.json")) == text, "a plan is read as another one");
  expect(read.in_file_order().size() == read.runs.size(), "a run has no place in its file");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(plan)
