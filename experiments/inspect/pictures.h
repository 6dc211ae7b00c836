// SPDX-License-Identifier: Apache-2.0
// The pictures of klab inspect.
#pragma once

#include <string>
#include <vector>

#include "experiments/inspect/inspection.h"

namespace klab {

struct Picture;  // experiments/plot/plot_picture.h

/// A picture file in the output folder.
struct DrawnPicture {
  std::string file;  ///< file name
  std::string title;
  std::string alt;    ///< alternative text
  bool wide = false;  ///< takes the full width of the page
};

/// Draws curves or bars to the PNG file `out`, in the size of the report's pictures.
void draw_picture(const Picture& picture, const std::string& title, const std::string& out, int height = 560);

/// Half-lives of one linear mixer: a heat map of heads x sorted channels, or a bar per head if each head has one decay.
/// Draws nothing (`file` is "") if there is no decay.
DrawnPicture draw_half_lives(const MixerView& view, const std::string& folder);

/// Weights of the shown example as heat maps, eight heads per picture.
std::vector<DrawnPicture> draw_weights(const MixerView& view, const Inspection& found, const std::string& folder);

/// Effective rank of a linear mixer's states over tokens, a curve per head.
DrawnPicture draw_ranks(const MixerView& view, const Inspection& found, const std::string& folder);

/// Accuracy by difficulty. Draws nothing (`file` is "") if the task has no difficulty measure.
DrawnPicture draw_accuracy(const Evaluation& of, const std::string& folder);

/// Loss, less the entropy of the source if it is known, by difficulty and by position, for text and language. Draws
/// nothing for other tasks.
std::vector<DrawnPicture> draw_losses(const Evaluation& of, const std::string& folder);

}  // namespace klab
