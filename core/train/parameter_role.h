// SPDX-License-Identifier: Apache-2.0
// What a parameter is for, because optimisers treat embeddings, matrices and vectors differently.
#pragma once

#include <torch/nn/module.h>

#include <map>
#include <string>

namespace klab {

enum class ParameterRole {
  embedding,    ///< the parameter `embedding` of the model, [vocabulary, D]
  head,         ///< the weight of the model's `lm_head`, [vocabulary, D]
  matrix,       ///< the weight of every other Linear, [out, in], each expert's included: a matrix of a hidden layer
  convolution,  ///< the weight of a ShortConv, [D, taps]: one filter per channel
  vector        ///< whatever has at most one dimension (norms, biases, A_log, dt_bias), and RWKV-7's r_k [heads, K]
};

/// The roles of all parameters of `module` by name, decided by the type of the module that owns a parameter, its name
/// and its number of dimensions. Throws UsageError that names the parameters whose role this does not tell.
std::map<std::string, ParameterRole> parameter_roles(const torch::nn::Module& module);

}  // namespace klab
