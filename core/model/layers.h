// SPDX-License-Identifier: Apache-2.0
// The basic layers of mixers and the decoder. Parameters are initialised later, by Decoder::initialise.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

#include <string>
#include <utility>
#include <vector>

#include "core/model/state.h"

namespace klab {

/// During its lifetime, new modules on this thread create their parameters on that device (the meta device: shapes
/// without memory) and in that dtype. `hollow` parameters have a shape but no memory of their own, on any device; they
/// are to be replaced (set_data).
class ParameterPlace {
 public:
  ParameterPlace(torch::Device device, torch::ScalarType dtype, bool hollow = false);
  explicit ParameterPlace(torch::Device device);  ///< in the dtype as it is
  ~ParameterPlace();
  ParameterPlace(const ParameterPlace&) = delete;
  ParameterPlace& operator=(const ParameterPlace&) = delete;

 private:
  torch::TensorOptions before_;
  bool hollow_before_;
};

/// A new parameter filled with `value`: float32 on the CPU, unless a ParameterPlace is active.
torch::Tensor new_parameter(torch::IntArrayRef shape, double value = 0);

/// The same, but at least float32: for decay rates and biases that need more precision than bfloat16.
torch::Tensor new_wide_parameter(torch::IntArrayRef shape, double value = 0);

/// y = x W^T (+ bias): [.., in] to [.., out]. W is [out, in]; for inference it may be narrower than x: int8 with a row
/// `scale` [out] float32, bfloat16 or float16 (kernels/linear/linear.h).
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(int64_t in, int64_t out, bool with_bias = false);
  torch::Tensor forward(const torch::Tensor& x) const;
  /// The dtype of x, for states that keep such values: that of the weight, float32 if it is int8.
  torch::ScalarType input_dtype() const {
    return weight.scalar_type() == torch::kChar ? torch::kFloat : weight.scalar_type();
  }
  torch::Tensor weight, bias, scale;
};
TORCH_MODULE(Linear);

/// Whether a Linear weight of this name ("layer0.mixer.q_proj.weight") may be int8: not those of routers, of the gate
/// of shared experts, of beta, and of the up-projection of MLA, which latent attention absorbs in parts.
bool may_be_int8(const std::string& parameter);

/// An input x of several Linear layers. In training the layers `together` are computed at once, which reads x once and
/// also sums their gradients of x at once; without gradients each is computed when it is taken, to save memory.
class SharedInput {
 public:
  /// Layers in `together` may be null.
  SharedInput(const torch::Tensor& x, const std::vector<Linear>& together);

  const torch::Tensor& tensor() const { return x_; }
  operator const torch::Tensor&() const { return x_; }  // NOLINT: a SharedInput is a tensor that knows its users

  /// layer(x): [.., in] to [.., out].
  torch::Tensor take(const Linear& layer) const;

 private:
  torch::Tensor x_;
  mutable std::vector<std::pair<const LinearImpl*, torch::Tensor>> results_;  // without bias; taken ones are undefined
};

/// RMSNorm over the last dimension, [.., D].
class RmsNormImpl : public torch::nn::Module {
 public:
  RmsNormImpl(int64_t width, double eps);
  torch::Tensor forward(const torch::Tensor& x) const;
  torch::Tensor weight;
  double eps;
};
TORCH_MODULE(RmsNorm);

/// Causal depthwise convolution, then SiLU if `activated`, [B, T, D] to [B, T, D]. The last taps - 1 inputs
/// [N, taps - 1, D] are in `state` under `name`.
class ShortConvImpl : public torch::nn::Module {
 public:
  ShortConvImpl(int64_t width, int64_t taps, bool with_bias, bool activated = true);
  torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state,
                        const std::string& name) const;
  torch::Tensor initial_state(int64_t sequences, const torch::Device& device) const;
  double flops_per_token() const { return 2.0 * static_cast<double>(weight.numel()); }
  torch::Tensor weight, bias;

 private:
  std::string activation_;
};
TORCH_MODULE(ShortConv);

/// The convolution of a Canon layer (Allen-Zhu 2025, Physics of Language Models 4.1), which is added to its input:
/// causal, depthwise, over four tokens, without activation.
ShortConv canon_conv(int64_t width);

/// A parameter with its name in a module, "layer0.mixer.q_proj.weight"; the tensor shares its storage with the
/// module's.
struct NamedParameter {
  std::string name;
  torch::Tensor tensor;
};

/// The parameters that this process has. A model whose experts are spread over ranks (see MixtureOfExperts) also has
/// those of the other ranks, on the meta device: they are left out, unless all parameters are on it. So are those whose
/// memory was freed (GradientSums::drop_weights()).
std::vector<NamedParameter> own_parameters(const torch::nn::Module& module);

/// Whether this process has a parameter's numbers: not those on the meta device, nor those whose memory was freed.
bool has_memory(const torch::Tensor& parameter);

/// 2 x the number of weights of all Linear layers in `module`: the FLOPs of its projections per token.
double linear_flops(const torch::nn::Module& module);

/// The number of elements of all parameters of `module`.
int64_t parameter_count(const torch::nn::Module& module);

}  // namespace klab
