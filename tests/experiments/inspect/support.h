// SPDX-License-Identifier: Apache-2.0
// An inspection as `inspect` would return it, without a model.
#pragma once

#include "experiments/inspect/inspection.h"

namespace klab {

/// Two heads of a linear mixer and two of softmax attention over three tokens, the last of which has a target.
Inspection sample_inspection();

}  // namespace klab
