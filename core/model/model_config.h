// SPDX-License-Identifier: Apache-2.0
// The config keys `model.*`.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/feed_forward.h"
#include "core/model/token_mixer.h"

namespace klab {

/// The configuration of a decoder stack. `pattern` is the list of mixers, repeated over the layers (a list of `layers`
/// items names each layer); an item may be
///     kda              one layer
///     kda*3            three of them
///     kda:3+mla:1      one layer with 3 heads of KDA and 1 of MLA; without numbers, equal shares
/// With `ratio` N:M and a pattern of two items, N layers of the first alternate with M of the second.
struct ModelConfig : Configurable {
  explicit ModelConfig(const Registry<MixerEntry>& mixers) : mixers_(&mixers) {}

  int64_t layers = 2;
  int64_t width = 64;
  int64_t heads = 2;
  int64_t head_dim = 32;
  int64_t mlp_width = 0;
  int64_t vocab = 0;
  double norm_eps = 1e-5;
  std::vector<std::string> pattern = {"kda"};
  std::string ratio = "none";
  std::string last_layer = "pattern";
  int64_t first_dense = 1;
  Activation activation;
  bool sandwich_norm = false;
  std::vector<std::string> canon = {"none"};
  int64_t attention_residuals = 0;
  bool value_residual = false;
  bool tie_embeddings = false;
  MoeConfig moe;

  void visit(Fields& fields) override;
  void validate() const override;

  /// The pattern item of each layer.
  std::vector<std::string> layer_mixers() const;

  /// Whether `canon` has this position.
  bool has_canon(const std::string& position) const;

  /// The mixers that `pattern` can name.
  const Registry<MixerEntry>& registry() const { return *mixers_; }

  /// Builds the mixer of layer `layer` from its pattern item.
  std::shared_ptr<TokenMixer> make_mixer(const std::string& item, int64_t layer = 0) const;
  /// `expert_ranks`: over which experts are spread; null: not at all.
  std::shared_ptr<FeedForward> make_feed_forward(int64_t layer,
                                                 const std::shared_ptr<RankGroup>& expert_ranks = nullptr) const;

 private:
  std::vector<std::string> mixer_names() const;  // without duplicates
  int64_t dense_width() const;

  const Registry<MixerEntry>* mixers_;
  std::map<std::string, AnyConfig> options_;  // of the mixers in the pattern
};

}  // namespace klab
