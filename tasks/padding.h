// SPDX-License-Identifier: Apache-2.0
// Sequences of several lengths in rows of one length.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "tasks/task.h"

namespace klab {

/// Uniform in [least, most]; with least = 0 it is `most`, and nothing is drawn.
int64_t draw_length(int64_t least, int64_t most, Random& random);

/// Throws UsageError, with the config key in its message, for a least length above task.length.
void require_least_length(const std::string& key, int64_t least, int64_t length);

/// Appends `pad` without targets until the example has `length` positions.
void append_padding(Example& example, int64_t length, int64_t pad);

/// The inputs without the `pad` at their end. As a split key it makes the split of a short sequence the same in rows of
/// every length.
std::vector<int64_t> without_padding(const Example& example, int64_t pad);

}  // namespace klab
