// SPDX-License-Identifier: Apache-2.0
// The difficulty of a token of language: how long ago the same pair of tokens occurred.
#pragma once

#include "tasks/task.h"

namespace klab {

/// Sets the difficulty of every target: the gap in positions to the last place in the same sequence (Example::starts)
/// where the same input had the same target, and 0 for a pair that is new.
void set_gaps(Example& row);

}  // namespace klab
