// How the public checkpoints of Kimi Linear call and shape the parameters of a decoder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace klab {

/// Where a parameter may lie in a checkpoint: a tensor, or one item of its first dimension (`item` >= 0), and of that
/// the rows [begin, begin + rows) (all when rows = 0).
struct TensorPlace {
  std::string name;
  int64_t item = -1, begin = 0, rows = 0;
};

/// The public name of a decoder's parameter ("layer3.mixer.q_conv.weight" is
/// "model.layers.3.self_attn.q_conv1d.weight"), as published and as transformers 5 holds it in memory: one convolution
/// for q, k and v, gates in a module of their own, all experts in two tensors. `shape` is the parameter's. The first
/// one is what is written. Throws Error for a parameter that the layout has no name for.
std::vector<TensorPlace> public_places(const std::string& parameter, const std::vector<int64_t>& shape);

/// The shape in which the parameter is written.
std::vector<int64_t> public_shape(const std::string& parameter, const std::vector<int64_t>& shape);

/// Whether `found` is a spelling of the parameter's shape: with dimensions of size one more or fewer, and dt_bias
/// [H * K] as [H, K], H = `heads`.
bool same_shape(const std::string& parameter, const std::vector<int64_t>& shape, const std::vector<int64_t>& found,
                int64_t heads);

/// Tensors that a reader passes over: those of layers for multi-token prediction, and rotary frequencies.
bool is_passed_over(const std::string& tensor);

}  // namespace klab
