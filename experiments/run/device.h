// SPDX-License-Identifier: Apache-2.0
// The device that --device names.
#pragma once

#include <torch/types.h>

#include <string>

namespace klab {

/// Opens "cpu" or "cuda". torch's CUDA library is loaded here and not at program start, where it would take half a
/// second. Throws Error if the library or a usable device is missing.
torch::Device open_device(const std::string& name);

}  // namespace klab
