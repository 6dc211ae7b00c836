// SPDX-License-Identifier: Apache-2.0
#include "core/train/support.h"

#include <torch/nn/module.h>

namespace klab {
namespace {

using torch::Tensor;

class PreviousToken : public TokenMixer {
 public:
  struct Options : Configurable {
    void visit(Fields&) override {}
  };

  PreviousToken(const MixerShape& shape, const Options&)
      : projection_(register_module("projection", Linear(shape.width, shape.width))) {}
  double flops(int64_t) const override { return 0; }
  double decode_flops(int64_t) const override { return 0; }

 protected:
  Tensor mix(const Tensor& x, const Sequences&, State*) override {
    const Tensor before = torch::constant_pad_nd(x, {0, 0, 1, 0}).narrow(1, 0, x.size(1));
    return projection_->forward(before);
  }

 private:
  Linear projection_;
};

const Registry<MixerEntry>& tiny_mixers() {
  static const Registry<MixerEntry> mixers("mixer", {mixer_entry<PreviousToken>("previous", "the token before", "")});
  return mixers;
}

}  // namespace

Decoder tiny_model(int64_t width) {
  ModelConfig config(tiny_mixers());
  config.layers = 1;
  config.width = width;
  config.heads = 1;
  config.head_dim = width;
  config.mlp_width = width;
  config.pattern = {"previous"};
  return Decoder(config, kTinyVocabulary);
}

BatchSource previous_token_task(uint64_t seed, int64_t shift, int64_t batch, int64_t length) {
  return [=](int64_t index) {
    const at::Generator generator =
        at::make_generator<at::CPUGeneratorImpl>(1000 * seed + static_cast<uint64_t>(index));
    const Tensor inputs = torch::randint(kTinyVocabulary, {batch, length}, generator, torch::kLong);
    Tensor labels = torch::full({batch, length}, -1, torch::kLong);
    labels.narrow(1, 1, length - 1).copy_((inputs.narrow(1, 0, length - 1) + shift).remainder(kTinyVocabulary));
    return Batch{inputs, labels};
  };
}

}  // namespace klab
