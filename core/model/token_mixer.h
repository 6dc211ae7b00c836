// SPDX-License-Identifier: Apache-2.0
// The interface of every token mixer: one function for training, prefill and decode.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <string>

#include "core/base/config.h"
#include "core/base/registry.h"
#include "core/model/state.h"

namespace klab {

struct MixerProbe;  // mixer_probe.h

class TokenMixer : public torch::nn::Module {
 public:
  /// x [B, T, D] to [B, T, D]. Without a state (training) every sequence starts from an empty state. With a state the
  /// call continues from it and updates it, so that a sequence split at any tokens gives the results of one call.
  /// Throws UsageError for a state with another number of sequences.
  /// `values`, if not null, is the values of the first mixer with values, undefined before it, see
  /// add_value_residual().
  torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state,
                        torch::Tensor* values = nullptr);

  /// Lets a mixer other than the first use a mixture of its own values and those of the first: v = s_0 v + s_1 v_first,
  /// with a learned `value_share` [2] that begins at 1/2 (value residual learning, arXiv 2410.17897). Throws UsageError
  /// if it has no values [B, T, ..] per token.
  void add_value_residual(bool first);

  /// The empty state of `sequences` sequences.
  State initial_state(int64_t sequences, const torch::Device& device) const;

  /// Bytes of the state of one sequence after `tokens` tokens, and bytes per token in its caches (whose capacity grows
  /// by kCacheBlock tokens).
  int64_t state_bytes(int64_t tokens) const;
  int64_t cache_bytes_per_token() const;

  /// Floating-point operations (a multiply-add counts two) of a forward pass over one sequence of `tokens` tokens
  /// (equations 13, in the chunk form, and 14 of arXiv 2510.26692, and all projections), and of one more token after
  /// `tokens`, in the recurrent form or over a cache.
  virtual double flops(int64_t tokens) const = 0;
  virtual double decode_flops(int64_t tokens) const = 0;

  /// Bytes per token that a part of a sequence takes from the ranks of earlier tokens, other than by its state and its
  /// caches.
  virtual int64_t row_bytes_of_part() const { return 0; }

  /// Initialises the parameters with their own rules (decay rates), after all others.
  virtual void initialise(const at::Generator&) {}

  /// Sets the probe that observes the mixer's kernel, or null for none; it must outlive its use. In a composite mixer
  /// only the parts have probes.
  void watch(const MixerProbe* probe) { probe_ = probe; }

 protected:
  /// Implements forward(). state->lengths do not include x yet; forward() updates them.
  virtual torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) = 0;

  /// Adds tensors [N, ..], caches [N, 0, ..] and parts to `state`, for N = `sequences`. By default nothing.
  virtual void add_state(State&, int64_t /*sequences*/, const torch::Device&) const {}

  /// Whether mix() passes its values through with_first_values().
  virtual bool has_values() const { return false; }

  /// The mixture of values v with those of the first mixer; v itself in the first mixer and without value residuals.
  torch::Tensor with_first_values(const torch::Tensor& v) const;

  const MixerProbe* probe_ = nullptr;

 private:
  torch::Tensor value_share_;        // [2], undefined without value residuals
  torch::Tensor* values_ = nullptr;  // during forward()
};

/// The size parameters of every mixer.
struct MixerShape {
  int64_t width;           ///< D of the model
  int64_t heads;           ///< H
  int64_t head_dim;        ///< width of a head
  double norm_eps = 1e-5;  ///< eps of the mixer's norms
  int64_t layer = 0;       ///< the mixer's layer, of `layers`
  int64_t layers = 1;
};

/// An entry of the mixer registry.
struct MixerEntry {
  std::string name;
  std::string summary;
  std::string kernel;  ///< its kernel: "recurrence/channel/delta", "attention"
  /// The mixer's own options (config keys `model.<name>.*`), with their defaults.
  AnyConfig options;
  /// Builds the mixer. Throws UsageError for an invalid shape or option; the message has the option's name without the
  /// prefix ("value_dim"), but keys of the shape in full ("model.head_dim").
  std::function<std::shared_ptr<TokenMixer>(const MixerShape&, const AnyConfig& options)> make;
};

/// The registry entry of a mixer class with a nested `Options` and a constructor from (MixerShape, Options).
template <class Mixer>
MixerEntry mixer_entry(std::string name, std::string summary, std::string kernel) {
  return {std::move(name), std::move(summary), std::move(kernel), AnyConfig(typename Mixer::Options()),
          [](const MixerShape& shape, const AnyConfig& options) {
            return std::make_shared<Mixer>(shape, options.as<typename Mixer::Options>());
          }};
}

}  // namespace klab
