// SPDX-License-Identifier: Apache-2.0
// Probes, over the whole registry: the attention weights computed from the kernel's inputs, times the values, must
// equal the kernel's output. A new registry entry is included automatically.
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include <set>

#include "core/check/compare.h"
#include "core/inspect/recurrence_view.h"
#include "core/model/headwise.h"
#include "core/model/mixer_probe.h"
#include "mixers/support.h"

namespace klab {
namespace {

using torch::Tensor;

// Mixers that are not observed, see mixer_probe.h.
const std::set<std::string> kUnobserved{
    "mamba3", "mamba3_mimo", "log_linear_gdn", "log_linear_mamba2", "momentum_deltanet", "gated_oja"};

std::vector<std::string> subjects() {
  std::vector<std::string> names;
  for (const std::string& name : mixers().names()) {
    if (kUnobserved.count(name) == 0) names.push_back(name);
  }
  names.insert(names.end(), {"kda:2+attention:1", "mla+fox+gdn"});
  return names;
}

struct Shown {
  Tensor weights;  // [B, HV, T, T]
  Tensor v;        // [B, T, HV, V]
  Tensor o;        // [B, T, HV, V]
  bool softmax;
};

Tensor for_heads(const Tensor& v, int64_t heads) { return v.repeat_interleave(heads / v.size(2), 2); }

class Probe : public testing::TestWithParam<std::tuple<std::string, torch::ScalarType>> {
 protected:
  Probe() : dtype_(std::get<1>(GetParam())), mixer_(test_mixer(std::get<0>(GetParam()), dtype_)) {
    probe_.recurrence = [this](const kernels::RecurrenceInputs& in, const Tensor& o) {
      shown_.push_back({implicit_attention(in), in.v, o, false});
    };
    probe_.attention = [this](const kernels::AttentionInputs& in, const Tensor& o) {
      shown_.push_back({kernels::attention_weights(in), for_heads(in.v, o.size(2)), o, true});
    };
  }

  Tensor input(int64_t B, int64_t T) { return torch::randn({B, T, kTestShape.width}, generator_).to(dtype_); }

  // Sets the probe and returns the number of probed mixers.
  size_t watch(const MixerProbe* probe) {
    const auto* mixture = dynamic_cast<const HeadwiseMixer*>(mixer_.get());
    if (mixture == nullptr) {
      mixer_->watch(probe);
      return 1;
    }
    for (const auto& kind : mixture->kinds()) kind->watch(probe);
    return mixture->kinds().size();
  }

  void expect_close(const Tensor& actual, const Tensor& expected, const std::string& what) {
    const double allowed = dtype_ == torch::kDouble ? 1e-10 : 1e-4;
    const Comparison result = compare(actual.clone(), expected.clone(), {.of_element = allowed, .of_rms = allowed});
    EXPECT_TRUE(result.pass) << what << ": " << result.message;
  }

  void expect_explained(int64_t B, int64_t T) {
    const torch::NoGradGuard no_grad;
    const Tensor x = input(B, T), unwatched = mixer_->forward(x, {}, nullptr);
    const size_t watched = watch(&probe_);
    EXPECT_TRUE(torch::equal(mixer_->forward(x, {}, nullptr), unwatched)) << "the probe changes the output";
    watch(nullptr);
    mixer_->forward(x, {}, nullptr);
    ASSERT_EQ(shown_.size(), watched);
    for (const Shown& shown : shown_) {
      ASSERT_EQ(shown.weights.sizes(), (std::vector<int64_t>{B, shown.o.size(2), T, shown.v.size(1)}));
      expect_close(shown.weights.matmul(shown.v.to(shown.weights.scalar_type()).transpose(1, 2)).transpose(1, 2),
                   shown.o, "weights times values");
      const Tensor of_tokens = shown.weights.abs().unflatten(3, {T, -1}).sum(4);  // of all writes of a token
      EXPECT_EQ(of_tokens.triu(1).max().item<double>(), 0) << "weights of later tokens";
      if (shown.softmax) {
        EXPECT_GE(shown.weights.min().item<double>(), 0);
        EXPECT_LT((shown.weights.sum(-1) - 1).abs().max().item<double>(), 1e-5);
      }
    }
  }

  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(5);
  torch::ScalarType dtype_;
  std::shared_ptr<TokenMixer> mixer_;
  MixerProbe probe_;
  std::vector<Shown> shown_;
};

TEST_P(Probe, WeightsTimesValuesAreTheOutputs) { expect_explained(2, 37); }

TEST_P(Probe, OverSeveralBlocksOfColumns) { expect_explained(1, 300); }

TEST_P(Probe, EmptyFunctionsAreNotCalled) {
  const torch::NoGradGuard no_grad;
  const MixerProbe blind;
  watch(&blind);
  EXPECT_NO_THROW(mixer_->forward(input(1, 5), {}, nullptr));
}

TEST(UnobservedMixers, ShowNothing) {
  const torch::NoGradGuard no_grad;
  for (const std::string& name : kUnobserved) {
    const auto mixer = test_mixer(name, torch::kFloat);
    const MixerProbe probe{[&](const auto&, const Tensor&) { ADD_FAILURE() << name; },
                           [&](const auto&, const Tensor&) { ADD_FAILURE() << name; }};
    mixer->watch(&probe);
    mixer->forward(torch::randn({1, 9, kTestShape.width}), {}, nullptr);
  }
}

std::string name_of(const testing::TestParamInfo<Probe::ParamType>& info) {
  std::string name = std::get<0>(info.param);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return name + (std::get<1>(info.param) == torch::kDouble ? "_float64" : "_float32");
}

INSTANTIATE_TEST_SUITE_P(Registry, Probe,
                         testing::Combine(testing::ValuesIn(subjects()),
                                          testing::Values(torch::kFloat, torch::kDouble)),
                         name_of);

}  // namespace
}  // namespace klab
