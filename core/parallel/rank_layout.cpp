// SPDX-License-Identifier: Apache-2.0
#include "core/parallel/rank_layout.h"

#include <fmt/format.h>

#include "core/base/config.h"

namespace klab {

void RankLayout::validate() const {
  const auto divides = [&](int64_t count, const char* flag) {
    require(ranks % count == 0, flag, fmt::format("{}", count), fmt::format("must divide the {} ranks", ranks));
  };
  divides(context, "--cp");
  divides(experts, "--ep");
}

}  // namespace klab
