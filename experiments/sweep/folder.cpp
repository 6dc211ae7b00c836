// SPDX-License-Identifier: Apache-2.0
#include "experiments/sweep/folder.h"

#include "core/base/file.h"

namespace klab {

Plan SweepFolder::read_plan() const { return plan_of(read_file(plan()), plan()); }

}  // namespace klab
