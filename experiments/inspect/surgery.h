// SPDX-License-Identifier: Apache-2.0
// Edits of single associations in the state of a trained mixer: what they change, over the number of associations.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "experiments/inspect/inspection.h"

namespace klab {

struct SurgeryOptions {
  InspectOptions run;  ///< index, tokens and most_tokens are not used
  int64_t layer = -1;  ///< the layer whose state is edited; -1: see Surgery::attention
  bool quiet = false;  ///< no progress
};

/// read: nothing is changed. overwrite: the value under one key becomes that of another association. erase: it
/// becomes 0.
enum class StateEdit : uint8_t { read, overwrite, erase };

std::string to_string(StateEdit edit);

/// A mean over examples. NaN if it is not defined, as damage with a single association is not.
struct SampleMean {
  double mean = std::nan("");
  double error = std::nan("");  ///< its standard error, sd / examples^0.5; NaN for one example

  bool known() const { return !std::isnan(mean); }
};

/// Measurements with `pairs` associations in the state, one of which is edited. All of them compare the values under
/// the keys of the writes (values_under), over all heads of the mixer together, in the state as the model holds it.
struct SurgeryPoint {
  int64_t pairs;
  StateEdit edit;
  int64_t examples;

  /// read, overwrite: the cosine between the value under the edited key and the value that was written, mean over
  /// heads. erase: 1 - error.
  SampleMean success;
  /// |value under the edited key - wanted value| over the length of the wanted value; for erase over that of the value
  /// before. Rounding only, but for read.
  SampleMean error;
  SampleMean damage;   ///< relative_change() of the values under all other keys
  SampleMean overlap;  ///< key_overlap() of the edited key with the other keys, mean over heads

  // The most probable token after the separator and a key, for the edited key and up to kAskedKeys - 1 others.
  SampleMean answers_right;    ///< read: share of keys answered with their values
  SampleMean answers_changed;  ///< edited key: overwrite: answered with the new value; erase: not answered as before
  SampleMean answers_kept;     ///< share of the other keys that are answered as before
};

constexpr int64_t kAskedKeys = 16;

/// The edits of one mixer of a run.
struct Surgery {
  InspectOptions options;
  TaskConfig task;
  int64_t step = 0;
  MixerView mixer;
  int64_t heads = 0, key_dim = 0, value_dim = 0;  ///< of the state [HV, K, V]
  /// The implicit attention of questions to the values that they ask for: the share in their rows, the mean over
  /// questions, of the head with the largest. Without a given layer, the mixer with the largest is edited.
  double attention = 0;
  std::vector<SurgeryPoint> points;  ///< by number of pairs, then by edit
};

/// Loads the run's model and edits states of options.run.examples examples: for each number of associations, one
/// association in each example, another one in the next. Values of overwrites are rows v that another association of
/// the example wrote in the same heads. An edit is made between two tokens, so no decay belongs to it. Throws
/// UsageError as inspect() does, for a model without a mixer whose state is one matrix per head with one write per
/// token, for a layer without one, and as associations_of(); Interrupted on a signal.
Surgery edit_states(const SurgeryOptions& options);

}  // namespace klab
