// SPDX-License-Identifier: Apache-2.0
#include "tasks/gaps.h"

#include <map>

namespace klab {

void set_gaps(Example& row) {
  std::map<std::pair<int64_t, int64_t>, int64_t> last;  // pair -> position after the last place
  for (size_t t = 0; t < row.inputs.size(); ++t) {
    if (!row.starts.empty() && row.starts[t] == 1) last.clear();
    if (row.labels[t] == kNoTarget) continue;
    int64_t& place = last[{row.inputs[t], row.labels[t]}];
    const auto now = static_cast<int64_t>(t) + 1;
    row.difficulty[t] = place == 0 ? 0 : now - place;
    place = now;
  }
}

}  // namespace klab
