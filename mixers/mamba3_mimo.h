// SPDX-License-Identifier: Apache-2.0
// Mamba-3 with several writes and reads per token.
#pragma once

#include "mixers/mamba3.h"

namespace klab {

/// Mamba-3 in its multi-input, multi-output form (MIMO, arXiv 2603.15569): a token writes R pairs of keys B_r and
/// values x_r = p_r * x, all with the weights of its one write, and reads with R queries C_r: y_r = S^T C_r + D x_r.
/// The output is the sum over r of o_r * y_r * silu(s_r * z); p, s and o are parameters [H, R, V].
class Mamba3Mimo : public Mamba3 {
 public:
  struct Options : Mamba3::Options {
    int64_t rank = 4;
    void visit(Fields& fields) override;
  };

  Mamba3Mimo(const MixerShape& shape, const Options& options) : Mamba3(shape, options, options.rank) {}
};

}  // namespace klab
