// SPDX-License-Identifier: Apache-2.0
// Public Kimi Linear checkpoints: the layout of moonshotai/Kimi-Linear-48B-A3B and of transformers 5's kimi_linear.
#pragma once

#include "core/public/config_reader.h"
#include "core/public/family.h"

namespace klab {

/// Reads 1-based layer lists in `linear_attn_config` as published, and the names that transformers 5 writes
/// (`layer_types`, `linear_head_dim`, `num_experts_per_tok`, ..); both may be present with equal values. Tensors are
/// read as published and as in transformers 5's modules: one convolution for q, k and v, gates in a separate module,
/// all experts in two tensors. Written as published.
class KimiLinear : public Family {
 public:
  std::string name() const override { return "Kimi Linear"; }
  bool reads(const Json& json) const override;
  PublicConfig read(const Json& json, const std::string& origin) const override;
  std::map<std::string, std::string> builtin() const override;

  bool writes(const ModelConfig& config) const override;
  std::set<std::string> expressed() const override;
  Json fields(const ModelConfig& config, const Decoder& model, const PublicTokens& tokens,
              const std::string& dtype) const override;

  std::vector<TensorPlace> places(const ModelConfig& config, const std::string& parameter,
                                  const std::vector<int64_t>& shape) const override;
  std::vector<SpareTensor> spare(const ModelConfig& config) const override;
  bool passes_over(const std::string& tensor) const override;

 protected:
  /// The mixer of the layers with latent attention.
  virtual std::string attention(const Json& /*text*/) const { return "mla"; }
  /// Reads the fields beyond those that all have.
  virtual void read_more(ConfigReader& top, ConfigReader& linear, bool has_kda, ConfigKeys& set) const;
};

}  // namespace klab
