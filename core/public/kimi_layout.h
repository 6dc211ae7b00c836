// SPDX-License-Identifier: Apache-2.0
// Names and shapes of a decoder's parameters in public Kimi Linear checkpoints.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

/// The location of a parameter in a checkpoint: a tensor, or one item of its first dimension (`item` >= 0), and of that
/// the rows [begin, begin + rows) (all rows if rows = 0).
struct TensorPlace {
  std::string name;
  int64_t item = -1, begin = 0, rows = 0;
};

/// The public name of a decoder's parameter ("layer3.mixer.q_conv.weight" is
/// "model.layers.3.self_attn.q_conv1d.weight"), as published and as in transformers 5's modules: one convolution for q,
/// k and v, gates in a separate module, all experts in two tensors. `shape` is the parameter's. The first one is used
/// for writing. Throws Error for a parameter without a name in the layout.
std::vector<TensorPlace> public_places(const std::string& parameter, const std::vector<int64_t>& shape);

/// The shape of the parameter in written files.
std::vector<int64_t> public_shape(const std::string& parameter, const std::vector<int64_t>& shape);

/// Whether `found` is equivalent to the parameter's shape: dimensions of size 1 are ignored, and dt_bias [H * K] may be
/// [H, K], H = `heads`.
bool same_shape(const std::string& parameter, const std::vector<int64_t>& shape, const std::vector<int64_t>& found,
                int64_t heads);

/// Whether the reader skips the tensor: layers for multi-token prediction, and rotary frequencies.
bool is_passed_over(const std::string& tensor);

}  // namespace klab
