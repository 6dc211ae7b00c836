// SPDX-License-Identifier: Apache-2.0
// Pictures of very many points with few of them.
#pragma once

#include "experiments/plot/plot_picture.h"

namespace klab {

/// Where a curve or the path of a seed has more points than a picture of `width` pixels shows, keeps four for each
/// column of pixels, the first, the lowest, the highest and the last, with the whole band of the column: lines through
/// them look as lines through all. Many curves and seeds share a limit, beyond which columns are wider.
void thin_out(Picture& picture, int64_t width);

}  // namespace klab
