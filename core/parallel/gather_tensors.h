// SPDX-License-Identifier: Apache-2.0
// Named tensors that ranks have in parts.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "core/parallel/rank_group.h"

namespace klab {

/// On rank 0 the tensors of all ranks, in CPU memory but for its own; on the others their own. Of a tensor that several
/// have, one.
std::map<std::string, at::Tensor> gather_tensors(RankGroup& ranks, const std::map<std::string, at::Tensor>& own);

}  // namespace klab
