// SPDX-License-Identifier: Apache-2.0
#include "tasks/padding.h"

#include <fmt/format.h>

namespace klab {

int64_t draw_length(int64_t least, int64_t most, Random& random) {
  if (least == 0) return most;
  return least + static_cast<int64_t>(random.below(static_cast<uint64_t>(most - least + 1)));
}

void require_least_length(const std::string& key, int64_t least, int64_t length) {
  require(least <= length, key, fmt::format("{}", least),
          fmt::format("must be 0 (always the full length) or between 1 and task.length = {}", length));
}

void append_padding(Example& example, int64_t length, int64_t pad) {
  while (example.size() < length) example.append(pad);
}

std::vector<int64_t> without_padding(const Example& example, int64_t pad) {
  std::vector<int64_t> inputs = example.inputs;
  while (!inputs.empty() && inputs.back() == pad) inputs.pop_back();
  return inputs;
}

}  // namespace klab
