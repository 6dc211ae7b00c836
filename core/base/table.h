// Aligned tables on a terminal.
#pragma once

#include <string>
#include <vector>

namespace klab {

/// Rows under headers, columns padded to their widest cell; cells that look like numbers go to the right.
std::string format_table(const std::vector<std::string>& headers, const std::vector<std::vector<std::string>>& rows);

/// "[kda, mla]", a list as configs write it, as people do: "kda, mla". Other texts stay.
std::string bare_list(const std::string& text);

}  // namespace klab
