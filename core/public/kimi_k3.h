// SPDX-License-Identifier: Apache-2.0
// The text model of public Kimi K3 checkpoints.
#pragma once

#include "core/public/kimi_linear.h"

namespace klab {

/// The layout of Kimi Linear with more parts: attention residuals, latent experts, SiTU, an output gate of latent
/// attention, and in KDA an output gate of full rank beside a decay of low rank, with a lower bound. Reads the text
/// model inside of the multimodal one (`text_config`, tensors `language_model.*`) or alone; written alone. A_log may
/// be padded with zeros to the width of a head.
class KimiK3 : public KimiLinear {
 public:
  std::string name() const override { return "Kimi K3"; }
  bool reads(const Json& json) const override;
  PublicConfig read(const Json& json, const std::string& origin) const override;
  std::map<std::string, std::string> builtin() const override { return {}; }

  bool writes(const ModelConfig& config) const override;
  std::set<std::string> expressed() const override;
  std::vector<Assignment> implied(const ModelConfig& config) const override;
  Json fields(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
              const std::string& dtype) const override;

  std::vector<TensorPlace> places(const ModelConfig& config, const std::string& parameter,
                                  const std::vector<int64_t>& shape) const override;
  std::vector<SpareTensor> spare(const ModelConfig& config) const override;
  std::vector<std::pair<std::string, std::string>> prefixes() const override { return {{"language_model.", ""}}; }
  bool passes_over(const std::string& tensor) const override;

 protected:
  std::string attention(const Json& text) const override;
  void read_more(ConfigReader& top, ConfigReader& linear, bool has_kda, ConfigKeys& set) const override;
};

}  // namespace klab
