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
  /// x [B, T, D] to [B, T, D]. Without a state: training, every sequence starts from nothing. With one: continues it
  /// and leaves it at the end of x, so a sequence fed in any cuts gives what one call gives. Throws UsageError for a
  /// state of another number of sequences.
  torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state);

  /// The state of `sequences` sequences before their first token.
  State initial_state(int64_t sequences, const torch::Device& device) const;

  /// Bytes of the state of one sequence after `tokens` tokens, and what each token adds to its caches (which grow by
  /// kCacheBlock tokens at once).
  int64_t state_bytes(int64_t tokens) const;
  int64_t cache_bytes_per_token() const;

  /// Floating-point operations (a multiply-add counts two) of a forward pass over one sequence of `tokens` tokens
  /// (equations 13, in the chunk form, and 14 of arXiv 2510.26692, and all projections), and of one more token after
  /// `tokens`, in the recurrent form or over a cache.
  virtual double flops(int64_t tokens) const = 0;
  virtual double decode_flops(int64_t tokens) const = 0;

  /// Draws the parameters that have a rule of their own (decay rates); all others have been drawn by then.
  virtual void initialise(const at::Generator&) {}

  /// From now on `probe`, which must outlive that, is shown what goes through the mixer's kernel; null: nothing is. A
  /// mixer that is made of others has none: its parts do.
  void watch(const MixerProbe* probe) { probe_ = probe; }

 protected:
  /// What forward() does; state->lengths are still those before x, forward() counts them up.
  virtual torch::Tensor mix(const torch::Tensor& x, const Sequences& sequences, State* state) = 0;

  /// Gives `state` its tensors [N, ..], caches [N, 0, ..] and parts for N = `sequences`. Nothing by default.
  virtual void add_state(State&, int64_t /*sequences*/, const torch::Device&) const {}

  const MixerProbe* probe_ = nullptr;
};

/// What every mixer can be sized by.
struct MixerShape {
  int64_t width;           ///< D of the model
  int64_t heads;           ///< H
  int64_t head_dim;        ///< width of a head
  double norm_eps = 1e-5;  ///< eps of the norms inside
};

/// A line of the registry of mixers.
struct MixerEntry {
  std::string name;
  std::string summary;
  std::string kernel;  ///< what it runs on: "recurrence/channel/delta", "attention"
  /// The mixer's own options (config keys `model.<name>.*`), with their defaults.
  AnyConfig options;
  /// Throws UsageError for a shape or options that the mixer cannot have; an option goes by its own name, without the
  /// mixer's ("value_dim"), a key of the shape by its whole one ("model.head_dim").
  std::function<std::shared_ptr<TokenMixer>(const MixerShape&, const AnyConfig& options)> make;
};

/// The entry of a mixer class with a nested `Options` and a constructor from (MixerShape, Options).
template <class Mixer>
MixerEntry mixer_entry(std::string name, std::string summary, std::string kernel) {
  return {std::move(name), std::move(summary), std::move(kernel), AnyConfig(typename Mixer::Options()),
          [](const MixerShape& shape, const AnyConfig& options) {
            return std::make_shared<Mixer>(shape, options.as<typename Mixer::Options>());
          }};
}

}  // namespace klab
