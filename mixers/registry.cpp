// SPDX-License-Identifier: Apache-2.0
#include "mixers/registry.h"

namespace klab {

const Registry<MixerEntry>& mixers() {
#define KLAB_MIXER_ENTRY(name) name##_mixer(),
  static const Registry<MixerEntry> registry("mixer", {KLAB_MIXERS(KLAB_MIXER_ENTRY)});
#undef KLAB_MIXER_ENTRY
  return registry;
}

}  // namespace klab
