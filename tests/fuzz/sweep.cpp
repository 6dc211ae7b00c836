// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/base/text.h"
#include "experiments/sweep/sweep_file.h"
#include "fuzz/target.h"

namespace klab::fuzz {
namespace {

// Whether it may describe so many runs that it takes long: many values in lists, or a hundred draws or more.
bool may_be_long(std::string_view input) {
  constexpr auto kMostValues = 16;
  constexpr size_t kMostDigits = 2;
  const auto values = std::count(input.begin(), input.end(), ',') + std::count(input.begin(), input.end(), '-');
  const std::string_view draws = trimmed(halves(input, "runs:").second);
  return values > kMostValues || std::min(draws.find_first_not_of("0123456789"), draws.size()) > kMostDigits;
}

}  // namespace

// A sweep file; the plan that its workers would read is read as it was written.
void sweep(std::string_view input) {
  // It may name files; those must be none of the system's.
  if (may_be_long(input) || input.find('/') != std::string_view::npos) return;
  const Sweep read = parse_sweep(std::string(input), "sweep.yaml");
  expect(read.configs.size() == read.plan.runs.size() && !read.configs.empty(), "a sweep has other configs than runs");
  const std::string plan = to_text(read.plan);
  expect(to_text(plan_of(plan, "plan.json")) == plan, "a plan is read as another one");
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(sweep)
