// SPDX-License-Identifier: Apache-2.0
#include <filesystem>

#include "core/base/error.h"
#include "experiments/command/command.h"

namespace klab {

void require_input(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) refuse("there is no file or folder '{}'", path);
}

}  // namespace klab
