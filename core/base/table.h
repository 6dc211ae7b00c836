// SPDX-License-Identifier: Apache-2.0
// Aligned text tables.
#pragma once

#include <string>
#include <vector>

namespace klab {

/// Rows under headers, columns padded to their widest cell; numeric cells are right-aligned.
std::string format_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows);

/// Removes the brackets of a list: "[kda, mla]" becomes "kda, mla". Other texts are unchanged.
std::string bare_list(const std::string& text);

}  // namespace klab
