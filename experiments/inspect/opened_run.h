// SPDX-License-Identifier: Apache-2.0
// A run's model and its mixers, for klab inspect.
#pragma once

#include <deque>
#include <vector>

#include "core/model/decoder.h"
#include "core/model/mixer_probe.h"
#include "experiments/inspect/inspection.h"

namespace klab {

struct OpenedRun {
  RunConfig config;
  TaskConfig task;  ///< the run's, with the keys of the options overridden
  Decoder model{nullptr};
  int64_t step = 0;
};

/// Loads the checkpoint. Throws as inspect() does.
OpenedRun open_run(const InspectOptions& options);

/// The seed of the examples: that of the options, else that of the run.
int64_t seed_of_examples(const InspectOptions& options, const RunConfig& config);

struct Watched {
  MixerView view;
  TokenMixer* mixer;  ///< of the run's model
};

/// Every mixer of the model: of a whole layer, or of a group of its heads.
std::vector<Watched> mixers_of(const OpenedRun& run);

/// Attaches a probe to every mixer for its lifetime.
class Watch {
 public:
  /// make_probe(MixerView&) returns the probe of a mixer.
  template <class MakeProbe>
  Watch(std::vector<Watched>& mixers, MakeProbe make_probe) : mixers_(mixers) {
    for (Watched& watched : mixers_) watched.mixer->watch(&probes_.emplace_back(make_probe(watched.view)));
  }
  ~Watch() {
    for (Watched& watched : mixers_) watched.mixer->watch(nullptr);
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

 private:
  std::vector<Watched>& mixers_;
  std::deque<MixerProbe> probes_;  // a deque, for stable addresses
};

/// All numbers from 1 to `last`, or, if last > most, `most` evenly spaced ones.
std::vector<int64_t> numbers_up_to(int64_t last, int64_t most);

/// Throws Interrupted after a signal.
void stop_when_asked();

}  // namespace klab
