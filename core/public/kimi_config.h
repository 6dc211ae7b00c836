// The config.json of public Kimi Linear checkpoints, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/decoder.h"

namespace klab {

/// What a public config says that a ModelConfig does not: its special tokens, and how the weights are stored.
struct PublicTokens {
  std::optional<int64_t> begin, padding;
  std::vector<int64_t> stop;  ///< any of them ends an answer
};

/// A public config as klab takes it.
struct PublicConfig {
  std::vector<Assignment> model;  ///< config keys `model.*`, with the field of the file as their origin
  PublicTokens tokens;
};

/// Reads the text of a config.json: the layout of moonshotai/Kimi-Linear-48B-A3B (1-based layer lists in
/// `linear_attn_config`) and the names that transformers 5 writes (`layer_types`, `linear_head_dim`,
/// `num_experts_per_tok`, ..), which may stand beside them if they say the same. No field has a default where the
/// architecture depends on it. `origin` names the file in messages. Throws UsageError that names the field: unknown,
/// missing, of a wrong type, contradicted by another, or asking for what klab's model does not have.
PublicConfig parse_public_config(const std::string& text, const std::string& origin);

/// The same from a file, from a folder with a config.json (and perhaps a generation_config.json, whose stop tokens
/// count too), or by the name of a built-in config. Throws Error.
PublicConfig read_public_config(const std::string& path_or_name);

/// Names of the built-in public configs: "kimi-linear-48b".
std::vector<std::string> builtin_public_configs();

/// The config of the model that a public config describes; `mixers` must have kda and mla. Throws UsageError.
ModelConfig model_config(const PublicConfig& config, const Registry<MixerEntry>& mixers);

/// Writes what `model` (made from `config`, on any device) is as the text of a config.json, in the published names and
/// for transformers 5 alike. `dtype` as there ("float32"). Throws UsageError that names the key of an option that the
/// layout cannot say.
std::string public_config_text(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                               const std::string& dtype);

}  // namespace klab
