// The pictures of klab inspect.
#pragma once

#include <string>
#include <vector>

#include "experiments/inspect/inspection.h"

namespace klab {

/// A picture in the output folder.
struct DrawnPicture {
  std::string file;  ///< its name there
  std::string title;
  std::string alt;    ///< what it shows, for who cannot see it
  bool wide = false;  ///< too much in a row for half of a page
};

/// Half-lives of one linear mixer, heads x channels sorted, or a bar per head where each has one decay. Without a
/// picture ("" as its file) where nothing fades.
DrawnPicture draw_half_lives(const MixerView& view, const std::string& folder);

/// Weights of the drawn example as heat maps, eight heads a page.
std::vector<DrawnPicture> draw_weights(const MixerView& view, const Inspection& found, const std::string& folder);

/// Effective rank of a linear mixer's states over tokens, a curve per head.
DrawnPicture draw_ranks(const MixerView& view, const Inspection& found, const std::string& folder);

/// Accuracy by slices of difficulty. Without a picture where the task has no difficulty.
DrawnPicture draw_accuracy(const Evaluation& of, const std::string& folder);

}  // namespace klab
