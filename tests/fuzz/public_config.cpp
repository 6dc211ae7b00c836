// SPDX-License-Identifier: Apache-2.0
#include "core/public/public_config.h"

#include "fuzz/target.h"
#include "mixers/registry.h"

namespace klab::fuzz {

// The config.json of a public checkpoint; what is accepted is a model.
void public_config(std::string_view input) {
  model_config(parse_public_config(std::string(input), "config.json"), mixers()).layer_mixers();
}

}  // namespace klab::fuzz

KLAB_FUZZ_TARGET(public_config)
