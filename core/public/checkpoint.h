// SPDX-License-Identifier: Apache-2.0
// Loads public checkpoints into a decoder, and saves a decoder as a public checkpoint.
#pragma once

#include <functional>
#include <string>

#include "core/io/safetensors.h"
#include "core/model/decoder.h"
#include "core/public/public_config.h"

namespace klab {

/// How weights are stored in memory.
struct LoadOptions {
  /// "auto": matrices in the file's dtype. "float32", "bfloat16", "float16": matrices in this dtype. "int8":
  /// projections and experts as int8 with a scale per row; the embedding, routers and kv_b_proj as with "auto".
  /// Activations are bfloat16 if the matrices of "auto" are, else float32.
  std::string dtype = "auto";
  /// Matrices stay in memory-mapped files and are read on use, so that the model may be larger than memory. Those whose
  /// rows are scattered in their tensor are loaded.
  bool map = false;
  /// Called after every parameter with the bytes read so far and the total.
  std::function<void(uint64_t done, uint64_t all)> progress;
};

struct PublicModel {
  ModelConfig config;
  PublicTokens tokens;
  Decoder model;
  uint64_t weight_bytes;      ///< of all parameters in memory
  double quantisation_error;  ///< int8: RMS error over RMS weight, over all int8 weights
};

/// Loads a folder with config.json and weights. The files must contain every parameter, in its shape, and no other
/// tensors than those that the family passes over; otherwise throws Error with the tensor's name. Tensors are read one
/// at a time, so that peak memory is the loaded weights plus one tensor.
PublicModel load_public(const std::string& folder, const Registry<MixerEntry>& mixers, const LoadOptions& options = {});

/// Writes `model` (made from `config`) in the public layout of its family: config.json and weights in `dtype` (A_log
/// and dt_bias stay float32), in shards of at most `shard_bytes`. Throws UsageError for options that the layout cannot
/// express. Files are written atomically, config.json last.
void save_public(const std::string& folder, const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                 torch::ScalarType dtype, uint64_t shard_bytes);

/// Names, dtypes and shapes of the tensors that save_public() writes.
std::vector<TensorEntry> public_tensors(const Decoder& model, torch::ScalarType dtype);

}  // namespace klab
