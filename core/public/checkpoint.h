// A public Kimi Linear checkpoint as a decoder, and a decoder as a public checkpoint.
#pragma once

#include <functional>
#include <string>

#include "core/io/safetensors.h"
#include "core/model/decoder.h"
#include "core/public/kimi_config.h"

namespace klab {

/// How the weights are held.
struct LoadOptions {
  /// "auto": matrices in the file's own dtype. "float32", "bfloat16", "float16": in this one. "int8": projections and
  /// experts in eight bits with a scale per row; the embedding, routers and what latent attention absorbs as with auto.
  /// Activations are bfloat16 where the matrices of "auto" are, else float32.
  std::string dtype = "auto";
  /// Matrices stay in the mapped files and are read when they are used: the model may be larger than memory.
  bool map = false;
  /// Called from time to time with the bytes read so far and those of all tensors.
  std::function<void(uint64_t done, uint64_t all)> progress;
};

struct KimiModel {
  ModelConfig config;
  PublicTokens tokens;
  Decoder model;
  uint64_t weight_bytes;      ///< of all parameters, as they are held
  double quantisation_error;  ///< int8: root mean square of the errors over that of the weights, over all in eight bits
};

/// Opens a folder with config.json and weights. Every parameter must be there, in its shape, and nothing else; where
/// not, Error names the tensor. Tensors are read one after the other: what is in memory at most is the weights as they
/// are to be held, and one tensor.
KimiModel load_kimi(const std::string& folder, const Registry<MixerEntry>& mixers, const LoadOptions& options = {});

/// Writes `model` (made from `config`) in the public layout: config.json and weights in `dtype` (rates of the decay
/// and their biases stay float32), in shards of at most `shard_bytes`. Throws UsageError for what the layout cannot
/// say; files appear under their names when they are whole, config.json last.
void save_kimi(const std::string& folder, const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
               torch::ScalarType dtype, uint64_t shard_bytes);

/// The tensors of such a checkpoint, without their numbers: what save_kimi() writes.
std::vector<TensorEntry> public_tensors(const Decoder& model, torch::ScalarType dtype);

}  // namespace klab
