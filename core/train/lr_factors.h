// SPDX-License-Identifier: Apache-2.0
// Learning rates of single parameters: the config key `train.lr_factors`.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/train/optimizer.h"

namespace klab {

/// One entry: the learning rate of the parameters that it matches is `factor` times that of the others.
struct LrFactor {
  std::string match;  ///< a regular expression (ECMAScript) that a part of the name matches: plain text is a substring
  double factor = 1;
};

/// Reads the maps {match: text, factor: number >= 0}. Throws UsageError with the entry for an unknown or missing key,
/// an invalid expression or factor.
std::vector<LrFactor> lr_factors_of(const std::vector<Value>& maps);

/// Sets the factor of every parameter that an entry matches; of several entries the last is used. Throws UsageError for
/// an entry that matches nothing, with the names that are most like it.
void apply_lr_factors(const std::vector<LrFactor>& factors, std::vector<TrainedParameter>& parameters);

}  // namespace klab
