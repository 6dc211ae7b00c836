// SPDX-License-Identifier: Apache-2.0
#include "core/train/support.h"

#include <gtest/gtest.h>
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

ModelConfig tiny_config(int64_t width) {
  ModelConfig config(tiny_mixers());
  config.layers = 1;
  config.width = width;
  config.heads = 1;
  config.head_dim = width;
  config.mlp_width = width;
  config.pattern = {"previous"};
  return config;
}

}  // namespace

Decoder tiny_model(int64_t width, int64_t vocabulary) { return Decoder(tiny_config(width), vocabulary); }

Decoder tiny_model_with_experts(const std::shared_ptr<RankGroup>& ranks) {
  ModelConfig config = tiny_config(8);
  config.layers = 2;
  config.first_dense = 0;
  config.moe.experts = 6;
  config.moe.experts_per_token = 2;
  config.moe.expert_width = 5;
  return Decoder(config, kTinyVocabulary, ranks);
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

TinyRun::TinyRun() {
  config.steps = 20;
  config.batch = 8;
  config.lr = 3e-2;
  config.eval_every = 5;
  config.eval_examples = 16;
  config.checkpoint_every = 1000;
  config.stop_at = 2;  // never
}

Trainer TinyRun::trainer(const std::string& folder, bool resume) const {
  return {tiny_model(), config, train, validation(), RunFolder{folder}, {"made by: a test"}, resume, torch::kCPU};
}

std::vector<Batch> TinyRun::batches_of(uint64_t seed, int64_t count) {
  std::vector<Batch> batches;
  for (int64_t i = 0; i < count; ++i) batches.push_back(previous_token_task(seed)(i));
  return batches;
}

void TinyRun::unlearn_from(int64_t step) {
  const BatchSource other = previous_token_task(1, /*shift=*/1);
  train = [learn = train, other, step](int64_t index) { return index < step ? learn(index) : other(index); };
}

Next go_on(const TrainStatus&, bool) { return Next::step; }

std::function<Next(const TrainStatus&, bool)> stop_after(int64_t step) {
  return [step](const TrainStatus& status, bool) { return status.step == step ? Next::stop : Next::step; };
}

std::map<std::string, Tensor> parameters_of(Trainer& trainer) {
  std::map<std::string, Tensor> all;
  for (const auto& item : trainer.model()->named_parameters()) all[item.key()] = item.value().detach().clone();
  return all;
}

void expect_same_bits(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, tensor] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_TRUE(torch::equal(tensor, b.at(name))) << name;
  }
}

std::vector<std::string> timeless_rows(const RunFolder& folder) {
  const CsvTable table = read_csv(folder.metrics());
  std::vector<std::string> rows;
  for (const auto& row : table.rows) {
    std::string& text = rows.emplace_back();
    for (const char* column : {"step", "split", "loss", "acc_tok", "acc_seq", "lr", "grad_norm"}) {
      text += row[table.column(column)] + " ";
    }
  }
  return rows;
}

int64_t step_of(const std::string& checkpoint) { return load_checkpoint(checkpoint).json_field<int64_t>("step"); }

}  // namespace klab
