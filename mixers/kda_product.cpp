// SPDX-License-Identifier: Apache-2.0
#include "mixers/kda_product.h"

#include "mixers/registry.h"

namespace klab {

void KdaProduct::Options::visit(Fields& fields) {
  ChannelDecayOptions::visit(fields);
  fields("writes", writes, {1, 16}, "writes per token");
}

MixerEntry kda_product_mixer() {
  return mixer_entry<KdaProduct>("kda_product", "KDA with several writes of the delta rule per token",
                                 "recurrence/channel/delta");
}

}  // namespace klab
