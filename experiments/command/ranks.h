// SPDX-License-Identifier: Apache-2.0
// Commands that run on several processes.
#pragma once

#include <functional>

#include "core/parallel/parallelism.h"
#include "experiments/command/command.h"

namespace klab {

/// With --processes N: starts the command as N ranks on this machine and returns the largest exit code.
/// Else runs `work` as the rank that the environment names; `here` are the globals with what is different on this rank:
/// all but rank 0 are quiet.
int on_ranks(const Globals& globals,
             const std::function<int(const Globals& here, const Parallelism& parallelism)>& work);

}  // namespace klab
