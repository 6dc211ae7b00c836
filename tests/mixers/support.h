// Small models with drawn parameters.
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/model/decoder.h"
#include "mixers/registry.h"

namespace klab {

/// Odd everywhere.
constexpr MixerShape kTestShape{24, 3, 10};

/// The mixer of a pattern's item, its parameters drawn, in `dtype`: the same numbers in every dtype.
std::shared_ptr<TokenMixer> test_mixer(const std::string& item, torch::ScalarType dtype);

/// A mixer of the registry with these options, parameters not drawn.
std::shared_ptr<TokenMixer> make_mixer(const std::string& name, const MixerShape& shape,
                                       const std::vector<Assignment>& options = {});

/// A checked model config.
ModelConfig model_config(const std::vector<Assignment>& assignments);

}  // namespace klab
