// SPDX-License-Identifier: Apache-2.0
// Ranks as threads of one process, for tests.
#pragma once

#include <functional>
#include <memory>

#include "core/parallel/rank_group.h"

namespace klab {

/// Runs `work` as each of `count` ranks at the same time. Rethrows the error of the lowest rank that failed.
void on_rank_threads(int64_t count, const std::function<void(const std::shared_ptr<RankGroup>& ranks)>& work);

}  // namespace klab
