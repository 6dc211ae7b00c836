// SPDX-License-Identifier: Apache-2.0
// Operations of all ranks that can be differentiated.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "core/parallel/rank_group.h"

namespace klab {

/// RankGroup::exchange() with a gradient: the backward pass sends the gradients of the received rows back. It is an
/// operation of all ranks too, so that the result must be used in the loss of every rank, if only by an empty part.
at::Tensor exchange(const std::shared_ptr<RankGroup>& ranks, const at::Tensor& x, const std::vector<int64_t>& sent,
                    const std::vector<int64_t>& received);

/// x of every rank, [size, ..], with a gradient in the same way.
at::Tensor gather(const std::shared_ptr<RankGroup>& ranks, const at::Tensor& x);

}  // namespace klab
