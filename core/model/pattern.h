// SPDX-License-Identifier: Apache-2.0
// The items of a pattern: "kda", "kda*3", "kda:3+mla:1".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

/// The heads of a layer that use one mixer; `heads` 0 means an equal share.
struct HeadShare {
  std::string mixer;
  int64_t heads;
};

/// Parses the mixers of one layer and their heads. Throws UsageError.
std::vector<HeadShare> parse_heads(const std::string& item);

/// Expands repetition counts: {"kda*3", "mla"} gives kda, kda, kda, mla. Throws UsageError.
std::vector<std::string> expand_pattern(const std::vector<std::string>& pattern);

/// The two numbers of "3:1". Throws UsageError.
std::vector<int64_t> parse_ratio(const std::string& text);

}  // namespace klab
