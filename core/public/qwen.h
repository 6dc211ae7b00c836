// SPDX-License-Identifier: Apache-2.0
// Public checkpoints of Qwen3-Next and Qwen3.5: Gated DeltaNet and gated attention, dense or with experts.
#pragma once

#include "core/public/family.h"

namespace klab {

/// Reads the model types qwen3_next, qwen3_5_text and qwen3_5_moe_text, and the text model inside of qwen3_5 and
/// qwen3_5_moe (`text_config`, tensors `model.language_model.*`): a text has the same position on all three axes of
/// their rotary embedding, which then is the plain one. Projections of Gated DeltaNet are read in one tensor ordered by
/// key head (Qwen3-Next) or in four (Qwen3.5), experts one by one or all in two tensors. All norms except that inside
/// Gated DeltaNet multiply by 1 + weight.
///
/// Written as Qwen3.5, or as Qwen3-Next what only that has: dense layers before experts, weights of experts that are
/// not normalised.
class Qwen : public Family {
 public:
  std::string name() const override { return "Qwen3-Next and Qwen3.5"; }
  bool reads(const Json& json) const override;
  PublicConfig read(const Json& json, const std::string& origin) const override;

  bool writes(const ModelConfig& config) const override;
  std::set<std::string> expressed() const override;
  std::vector<Assignment> implied(const ModelConfig& config) const override;
  Json fields(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
              const std::string& dtype) const override;

  std::vector<TensorPlace> places(const ModelConfig& config, const std::string& parameter,
                                  const std::vector<int64_t>& shape) const override;
  std::vector<std::pair<std::string, std::string>> prefixes() const override {
    return {{"model.language_model.", "model."}};
  }
  bool passes_over(const std::string& tensor) const override;
};

}  // namespace klab
