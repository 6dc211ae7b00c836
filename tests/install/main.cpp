// SPDX-License-Identifier: Apache-2.0
// KDA on random inputs, through the installed library: prints the shape of its output.
#include <ATen/ATen.h>

#include <iostream>

#include "klab/kernels/recurrence/recurrence.h"

int main() {
  const int64_t B = 1, T = 33, H = 2, K = 16, V = 32;
  klab::kernels::RecurrenceInputs in;
  in.q = at::randn({B, T, H, K});
  in.k = at::randn({B, T, H, K});
  in.v = at::randn({B, T, H, V});
  in.g = -at::rand({B, T, H, K});
  in.beta = at::rand({B, T, H});
  in.qk_l2norm = true;
  const klab::kernels::RecurrenceOutputs out = klab::kernels::recurrence(in);
  std::cout << out.o.sizes() << ' ' << out.final_state.sizes() << '\n';
}
