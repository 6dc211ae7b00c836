// SPDX-License-Identifier: Apache-2.0
// Fields of a public config.json, checked as they are read; used by the families.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/base/json.h"
#include "core/public/public_config.h"

namespace klab {

inline constexpr int64_t kMostLayers = 1000, kMostExperts = 10'000;
inline constexpr int64_t kWidest = int64_t{1} << 24;  ///< limit for layer widths and the vocabulary

/// The fields of one JSON object, read by name or alias; refuse_unknown() rejects fields that were never read. All
/// functions throw UsageError with the field's name.
class ConfigReader {
 public:
  using Json = nlohmann::ordered_json;

  ConfigReader(const Json& json, std::string origin) : json_(json), origin_(std::move(origin)) {}

  /// "config.json: NAME".
  std::string where(const std::string& name) const { return origin_ + ": " + name; }

  /// The value under any of the names, or null. Two different values are refused.
  Json find(const std::vector<std::string>& names);
  /// A whole number in least..most; `absent` is the value of a missing field, which otherwise is refused.
  int64_t count(const std::vector<std::string>& names, int64_t least, int64_t most,
                std::optional<int64_t> absent = std::nullopt);
  double number(const std::string& name, std::optional<double> absent = std::nullopt);
  bool flag(const std::vector<std::string>& names, bool absent);
  /// A list with one of `words` for each of `layers` layers, or empty.
  std::vector<std::string> layer_words(const std::string& name, int64_t layers, const std::vector<std::string>& words);
  /// A field with only one supported value.
  void only(const std::string& name, const Json& value, const std::string& because);
  /// A missing field, or one of several names of it.
  [[noreturn]] void missing(const std::vector<std::string>& names) const;
  /// `ignored`: fields without effect on a forward pass.
  void refuse_unknown(const std::set<std::string>& ignored) const;
  /// Quantised weights are refused.
  void refuse_quantised();
  /// A list of architectures, if there is one, must have a name that begins with one of these.
  void check_architectures(const std::vector<std::string>& beginnings);
  /// The special tokens.
  PublicTokens tokens();

 private:
  const Json& json_;
  std::string origin_;
  std::set<std::string> known_;
};

/// Collects `model.*` keys, each with its field as the origin.
struct ConfigKeys {
  const std::string origin;
  std::vector<Assignment> all = {};
  void operator()(const std::string& key, const Value& value, const std::string& field) {
    all.push_back({"model." + key, value, origin + ": " + field});
  }
};

/// Run-length encodes equal neighbours: "kda*3", "mla", "kda*2".
std::vector<std::string> compact_pattern(const std::vector<std::string>& layers);

/// A token id or a list of them. `where`: the field's name in messages. Throws UsageError.
std::vector<int64_t> token_ids(const nlohmann::ordered_json& value, const std::string& where);

/// The text model of a config.json: the object `text_config` if there is one, otherwise all of it. Special tokens and
/// tied embeddings of the whole model are added; those that the text model contradicts are refused, except for tokens.
/// `outer`: the other fields that the whole may have. Throws UsageError.
nlohmann::ordered_json text_config(const nlohmann::ordered_json& json, const std::string& origin,
                                   const std::set<std::string>& outer);

/// "config.json", or "config.json: text_config" if the text model is an object in it.
std::string text_origin(const nlohmann::ordered_json& json, const std::string& origin);

/// The tokens' fields, with null for what there is not.
void add_tokens(nlohmann::ordered_json& json, const PublicTokens& tokens);

/// The weight of a projection of `module` ("q_proj"), or an undefined tensor.
torch::Tensor weight_of(const torch::nn::Module& module, const std::string& name);

/// The first mixer of a kind, or null.
const TokenMixer* first_mixer(const ModelConfig& config, const Decoder& model, const std::string& kind);

/// Whether all layers are of these kinds.
bool has_only(const ModelConfig& config, const std::set<std::string>& kinds);

/// The value of an option of the model ("gdn.conv_size"), which must exist.
Value option_of(const ModelConfig& config, const std::string& key);

}  // namespace klab
