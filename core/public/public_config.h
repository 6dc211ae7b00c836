// SPDX-License-Identifier: Apache-2.0
// Reads and writes the config.json of public checkpoints, of all families (core/public/family.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/decoder.h"

namespace klab {

class Family;

/// The special tokens of a public config, which a ModelConfig does not contain.
struct PublicTokens {
  std::optional<int64_t> begin, padding;
  std::vector<int64_t> stop;  ///< each of them ends an answer
};

/// A public config in klab's terms.
struct PublicConfig {
  std::vector<Assignment> model;  ///< config keys `model.*`, with the field of the file as their origin
  PublicTokens tokens;
  const Family* family = nullptr;
};

/// Reads the text of a config.json, as published and as transformers 5 writes it. Fields that define the architecture
/// have no defaults. `origin` is the file's name in messages. Throws UsageError with the name of a field that is
/// unknown, missing, of a wrong type, contradicted by another, or not supported by klab's model.
PublicConfig parse_public_config(const std::string& text, const std::string& origin);

/// The same from a file, from a folder with a config.json (stop tokens of an optional generation_config.json are
/// added), or by the name of a built-in config. Throws Error.
PublicConfig read_public_config(const std::string& path_or_name);

/// Names of the built-in public configs: "kimi-linear-48b".
std::vector<std::string> builtin_public_configs();

/// The config of the model that a public config describes; `mixers` must have the family's mixers. Throws UsageError.
ModelConfig model_config(const PublicConfig& config, const Registry<MixerEntry>& mixers);

/// The config.json of `model` (built from `config`, on any device), with the published names, which transformers 5
/// reads too if it has the family. `dtype` is the field's value ("float32"). Throws UsageError with the key of an
/// option that the layout cannot express.
std::string public_config_text(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
                               const std::string& dtype);

}  // namespace klab
