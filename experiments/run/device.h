// The device that --device names.
#pragma once

#include <torch/types.h>

#include <string>

namespace klab {

/// "cpu" or "cuda". Loads torch's CUDA library when it is asked for, not before: it would cost every start of the
/// program half a second. Throws Error that says what is missing.
torch::Device open_device(const std::string& name);

}  // namespace klab
