// SPDX-License-Identifier: Apache-2.0
// Dtypes by the names used in options.
#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

namespace klab {

inline const std::vector<std::string> kDtypeNames = {"float32", "bfloat16", "float16"};

inline torch::ScalarType dtype_named(const std::string& name) {
  return name == "bfloat16" ? torch::kBFloat16 : name == "float16" ? torch::kHalf : torch::kFloat;
}

}  // namespace klab
