// SPDX-License-Identifier: Apache-2.0
#include "experiments/study/reproduction.h"

#include "core/base/file.h"
#include "core/base/text.h"

namespace klab {

void write_page(const ReproduceOptions& options, const std::vector<std::string>& lines) {
  write_file(options.out + "/page.md", join(lines, "\n") + "\n");
}

}  // namespace klab
