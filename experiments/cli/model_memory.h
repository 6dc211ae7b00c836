// SPDX-License-Identifier: Apache-2.0
// What klab model says about training.
#pragma once

#include <cstdint>
#include <vector>

#include "experiments/command/command.h"
#include "experiments/run/run_config.h"

namespace klab {

/// Prints the memory of a training run; returns the exit code.
int show_memory(const RunConfig& config, bool json);

/// Prints what each of so many ranks needs and sends, shared as `globals.layout` says; with `globals.out` writes CSV
/// there too. Returns the exit code.
int show_ranks(const RunConfig& config, const std::vector<int64_t>& ranks, bool json, const Globals& globals);

}  // namespace klab
