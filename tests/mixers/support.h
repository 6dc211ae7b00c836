// SPDX-License-Identifier: Apache-2.0
// Small models with random parameters.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/decoder.h"
#include "mixers/registry.h"

namespace klab {

/// Sizes that are not powers of two or multiples of the kernels' block sizes.
constexpr MixerShape kTestShape{24, 3, 10};

/// The mixer of a pattern item with random parameters in `dtype`; the same values in every dtype.
std::shared_ptr<TokenMixer> test_mixer(const std::string& item, torch::ScalarType dtype);

/// A mixer of the registry with these options; parameters are not initialised.
std::shared_ptr<TokenMixer> make_mixer(const std::string& name, const MixerShape& shape,
                                       const std::vector<Assignment>& options = {});

/// A test's name for a pattern item: with `_` for what names must not contain.
std::string test_name(const testing::TestParamInfo<std::string>& test);

/// A validated model config. Sliding attention has a window of 5 tokens, unless another is assigned.
ModelConfig model_config(const std::vector<Assignment>& assignments);

}  // namespace klab
