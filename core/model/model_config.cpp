// SPDX-License-Identifier: Apache-2.0
#include "core/model/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/model/headwise.h"
#include "core/model/layers.h"
#include "core/model/pattern.h"

namespace klab {
namespace {

constexpr int64_t kWidest = 1 << 20;

// The number of heads of each mixer of an item.
std::vector<HeadShare> share_heads(const std::string& item, int64_t heads) {
  std::vector<HeadShare> shares = parse_heads(item);
  const auto kinds = static_cast<int64_t>(shares.size());
  if (shares.front().heads == 0) {
    if (heads % kinds != 0) {
      refuse(
          "model.pattern: '{}' splits model.heads = {} between {} mixers, which does not divide; give the heads of "
          "each: "
          "'{}:{}+..'",
          item, heads, kinds, shares.front().mixer, heads - 1);
    }
    for (HeadShare& share : shares) share.heads = heads / kinds;
  }
  int64_t sum = 0;
  for (const HeadShare& share : shares) sum += share.heads;
  if (sum != heads) refuse("model.pattern: '{}' has {} heads, but model.heads = {}", item, sum, heads);
  return shares;
}

}  // namespace

void ModelConfig::visit(Fields& fields) {
  fields("layers", layers, {1, 4096}, "decoder layers");
  fields("width", width, {1, kWidest}, "width of the residual stream");
  fields("heads", heads, {1, 4096}, "heads of every mixer");
  fields("head_dim", head_dim, {1, 8192}, "width of a head (keys and values)");
  fields("mlp_width", mlp_width, {0, kWidest}, "hidden width of the SwiGLU; 0: 8/3 of the width");
  fields("vocab", vocab, {0, 1 << 25}, "vocabulary size of embedding and head; 0: the task's");
  fields("norm_eps", norm_eps, {0, 1, Ends::above_least},
         "eps of the norms (except that of the latent, model.mla.norm_eps)");
  fields("pattern", pattern, "mixers, repeated over the layers: [kda*3, mla]; kda:3+mla:1 mixes inside a layer");
  fields("ratio", ratio, "for a pattern of two mixers: 3:1 is three layers of the first, then one of the second; none");
  fields("last_layer", last_layer, "mixer of the last layer, overriding the pattern; pattern: no override");
  fields("first_dense", first_dense, {0, 4096}, "number of first layers that stay dense in a mixture of experts");
  fields.choice("activation", activation.name, Activation::names(),
                "activation of the gated feed-forward layers; silu: SwiGLU");
  fields("situ_beta", activation.situ_beta, {0, 1e6, Ends::above_least}, "bound of the gate with activation situ");
  fields("situ_linear_beta", activation.situ_linear_beta, {0, 1e6, Ends::above_least},
         "bound of the up-projection with activation situ");
  fields("sandwich_norm", sandwich_norm, "norms after mixers and feed-forward layers too");
  fields("canon", canon,
         "Canon layers, causal convolutions over four tokens that are added to their input: a, before the mixer; c, "
         "before the feed-forward; d, inside it, on gate and up (dense layers only); none");
  fields("attention_residuals", attention_residuals, {0, 4096},
         "layers per block of attention residuals, which replace the residual sum; 0: the sum");
  fields("value_residual", value_residual, "mixes the values of every layer with those of the first");
  fields("tie_embeddings", tie_embeddings, "the head is the embedding");
  fields.group("moe", moe);
  for (const std::string& name : mixer_names()) {
    fields.group(name, options_.try_emplace(name, mixers_->at(name).options).first->second.get());
  }
}

std::vector<std::string> ModelConfig::mixer_names() const {
  std::vector<std::string> items = expand_pattern(pattern), names;
  if (last_layer != "pattern") items.push_back(last_layer);
  for (const std::string& item : items) {
    for (const HeadShare& share : parse_heads(item)) {
      if (std::find(names.begin(), names.end(), share.mixer) == names.end()) names.push_back(share.mixer);
    }
  }
  return names;
}

void ModelConfig::validate() const {
  moe.validate();
  for (const std::string& position : canon) {
    const bool none = position == "none" && canon.size() == 1;
    require(none || position == "a" || position == "c" || position == "d", "model.canon", position,
            "must be among a, c, d, or none alone");
  }
  // The mixers' constructors check their options.
  const ParameterPlace nowhere(torch::kMeta, torch::kFloat);
  const std::vector<std::string> items = layer_mixers();
  for (const std::string& item : std::set<std::string>(items.begin(), items.end())) make_mixer(item);
}

std::vector<std::string> ModelConfig::layer_mixers() const {
  std::vector<std::string> period = expand_pattern(pattern);
  if (ratio != "none") {
    const std::vector<int64_t> counts = parse_ratio(ratio);
    if (period.size() != 2) {
      refuse("model.ratio = {} needs a model.pattern of two mixers, such as kda,mla, but it has {}", ratio,
             period.size());
    }
    period = expand_pattern(counts[0] == 0   ? std::vector{period[1]}
                            : counts[1] == 0 ? std::vector{period[0]}
                                             : std::vector{fmt::format("{}*{}", period[0], counts[0]),
                                                           fmt::format("{}*{}", period[1], counts[1])});
  }
  std::vector<std::string> all;
  for (int64_t layer = 0; layer < layers; ++layer) all.push_back(period[static_cast<size_t>(layer) % period.size()]);
  if (last_layer != "pattern") all.back() = last_layer;
  return all;
}

std::shared_ptr<TokenMixer> ModelConfig::make_mixer(const std::string& item, int64_t layer) const {
  std::vector<std::shared_ptr<TokenMixer>> kinds;
  for (const HeadShare& share : share_heads(item, heads)) {
    const MixerEntry& entry = mixers_->at(share.mixer);
    const auto chosen = options_.find(entry.name);
    try {
      kinds.push_back(entry.make({width, share.heads, head_dim, norm_eps, layer, layers},
                                 chosen == options_.end() ? entry.options : chosen->second));
    } catch (const UsageError& error) {  // a mixer's messages use option names without the prefix
      const std::string what = error.what();
      if (what.rfind("model.", 0) == 0) throw;
      refuse("model.{}.{}", entry.name, what);
    }
  }
  const std::shared_ptr<TokenMixer> mixer = kinds.size() == 1 ? kinds.front() : std::make_shared<HeadwiseMixer>(kinds);
  if (value_residual) mixer->add_value_residual(layer == 0);
  return mixer;
}

bool ModelConfig::has_canon(const std::string& position) const {
  return std::find(canon.begin(), canon.end(), position) != canon.end();
}

int64_t ModelConfig::dense_width() const { return mlp_width > 0 ? mlp_width : (8 * width / 3 + 7) / 8 * 8; }

std::shared_ptr<FeedForward> ModelConfig::make_feed_forward(int64_t layer,
                                                            const std::shared_ptr<RankGroup>& expert_ranks) const {
  if (moe.experts == 0 || layer < first_dense) {
    return std::make_shared<GatedMlp>(width, dense_width(), activation, has_canon("d"));
  }
  const int64_t share = (dense_width() + moe.experts_per_token - 1) / moe.experts_per_token;
  return std::make_shared<MixtureOfExperts>(width, moe.expert_width > 0 ? moe.expert_width : share, moe, expert_ranks,
                                            activation, norm_eps);
}

}  // namespace klab
