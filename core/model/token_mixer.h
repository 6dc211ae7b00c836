// The interface of every token mixer: one function for training, prefill and decode.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/base/config.h"
#include "core/base/registry.h"

namespace klab {

/// Where sequences begin and end in a batch. Undefined `cu_seqlens`: every batch row is one sequence. Else [N + 1]
/// integer offsets into the single row, which holds N packed sequences that never mix.
struct Sequences {
  torch::Tensor cu_seqlens;
};

/// What a mixer carries from one call to the next: named tensors whose first dimension is the sequence. A call may
/// write into them: a snapshot is a clone().
struct State {
  std::map<std::string, torch::Tensor> tensors;

  State clone() const;
  int64_t bytes() const;
};

class TokenMixer : public torch::nn::Module {
 public:
  /// x [B, T, D] to [B, T, D]. Without a state: training, every sequence starts from nothing. With one: continues it
  /// and leaves it at the end of x, so a sequence fed in any cuts gives what one call gives.
  virtual torch::Tensor forward(const torch::Tensor& x, const Sequences& sequences, State* state) = 0;

  /// The state of `sequences` sequences before their first token.
  virtual State initial_state(int64_t sequences, const torch::Device& device) const = 0;

  /// Bytes of the state of one sequence after `tokens` tokens.
  virtual int64_t state_bytes(int64_t tokens) const = 0;

  /// Floating-point operations (a multiply-add counts two) of a forward pass over one sequence of `tokens` tokens in
  /// the chunk form (equation 13 of arXiv 2510.26692), and of one more token after `tokens` in the recurrent form.
  virtual double flops(int64_t tokens) const = 0;
  virtual double decode_flops(int64_t tokens) const = 0;

  /// Draws the parameters that have a rule of their own (decay rates); all others have been drawn by then.
  virtual void initialise(const at::Generator&) {}
};

/// What every mixer can be sized by.
struct MixerShape {
  int64_t width;     ///< D of the model
  int64_t heads;     ///< H
  int64_t head_dim;  ///< width of a head
};

/// A line of the registry of mixers.
struct MixerEntry {
  std::string name;
  std::string summary;
  /// The mixer's own options (config keys `model.<name>.*`), with their defaults.
  std::function<std::unique_ptr<Configurable>()> make_options;
  /// Throws UsageError for a shape or options that the mixer cannot have.
  std::function<std::shared_ptr<TokenMixer>(const MixerShape&, const Configurable& options)> make;
};

/// The entry of a mixer class with a nested `Options` and a constructor from (MixerShape, Options).
template <class Mixer>
MixerEntry mixer_entry(std::string name, std::string summary) {
  return {std::move(name), std::move(summary), [] { return std::make_unique<typename Mixer::Options>(); },
          [](const MixerShape& shape, const Configurable& options) {
            return std::make_shared<Mixer>(shape, dynamic_cast<const typename Mixer::Options&>(options));
          }};
}

}  // namespace klab
