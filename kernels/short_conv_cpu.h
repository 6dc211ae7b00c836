// The short convolution on the hand-written CPU kernel, with autograd. Between short_conv.cpp and kernels/cpu/.
#pragma once

#include <string>
#include <vector>

#include "kernels/short_conv.h"

namespace klab::kernels {

/// Why the CPU kernel cannot take these inputs, or "".
std::string short_conv_cpu_declines(const ShortConvInputs& inputs);

/// Checked inputs; `offsets` as sequence_offsets() gives them. Differentiable.
ShortConvOutputs short_conv_cpu(const ShortConvInputs& inputs, const std::vector<int64_t>& offsets);

}  // namespace klab::kernels
